//! The recipes of `docs/ci.md`, taken out of the page and run.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "support/recipes.rs"]
mod recipes;

use recipes::{Job, Service, Values, blocks, copy, evaluate, expand, yaml};
use std::collections::BTreeMap;
use std::path::Path;
use yaml_rust2::Yaml;

/// GitHub Actions with its caches, in the order in which they were saved.
struct GitHub {
    service: Service,
    caches: Vec<String>,
}

impl GitHub {
    /// Runs the workflow for an event; the last step that failed is that of the job.
    fn run(&mut self, event: &str, sources: &[(&str, &str)]) -> Job {
        let workflow = yaml("GitHub Actions");
        assert!(!workflow["on"][event].is_badvalue(), "{event}");
        let dir = self.service.checkout(sources);
        let mut values: Values = [
            ("github.workspace", dir.to_str().unwrap()),
            ("github.event_name", event),
            ("runner.os", "Linux"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let mut variables: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in workflow["env"].as_hash().unwrap() {
            let (name, value) = (
                name.as_str().unwrap(),
                expand(value.as_str().unwrap(), &values),
            );
            values.insert(format!("env.{name}"), value.clone());
            variables.insert(name.to_owned(), value);
        }
        let summary = dir.join("summary.md");
        variables.insert(
            "GITHUB_STEP_SUMMARY".to_owned(),
            summary.display().to_string(),
        );
        let mut job = Job {
            dir: dir.clone(),
            output: String::new(),
            code: Some(0),
        };
        for step in workflow["jobs"]["build"]["steps"].as_vec().unwrap() {
            let condition = step["if"].as_str().unwrap_or("always()");
            let goes_on =
                job.code == Some(0) || condition == "always()" && !step["if"].is_badvalue();
            if !goes_on || evaluate(condition, &values).is_empty() {
                continue;
            }
            if let Some(action) = step["uses"].as_str() {
                self.action(action, &step["with"], &dir, &values);
                continue;
            }
            let script = expand(step["run"].as_str().unwrap(), &values);
            let file = dir.join("output");
            std::fs::write(&file, "").unwrap();
            variables.insert("GITHUB_OUTPUT".to_owned(), file.display().to_string());
            let done = self.service.run(&dir, &script, &variables);
            job.output += &done.output;
            if done.code != Some(0) {
                job.code = done.code;
            }
            if let Some(id) = step["id"].as_str() {
                for line in std::fs::read_to_string(&file).unwrap().lines() {
                    let (name, value) = line.split_once('=').unwrap();
                    values.insert(format!("steps.{id}.outputs.{name}"), value.to_owned());
                }
            }
        }
        job
    }

    fn action(&mut self, action: &str, with: &Yaml, dir: &Path, values: &Values) {
        let text = |name: &str| expand(with[name].as_str().unwrap(), values);
        match action.split('@').next().unwrap() {
            "actions/checkout" => {}
            "actions/cache/restore" => {
                let (key, begin) = (text("key"), text("restore-keys"));
                let exact = self.caches.iter().find(|name| **name == key);
                let newest = self
                    .caches
                    .iter()
                    .rev()
                    .find(|name| name.starts_with(&begin));
                if let Some(found) = exact.or(newest) {
                    copy(&self.service.path(found), &dir.join(text("path")));
                }
            }
            "actions/cache/save" => {
                let key = text("key");
                // A cache is never replaced.
                if !self.caches.contains(&key) {
                    copy(&dir.join(text("path")), &self.service.path(&key));
                    self.caches.push(key);
                }
            }
            other => panic!("{other} is not known here"),
        }
    }
}

fn summary(job: &Job) -> String {
    std::fs::read_to_string(job.dir.join("summary.md")).unwrap()
}

fn output(job: &Job, name: &str) -> String {
    std::fs::read_to_string(job.dir.join(format!("{name}.out"))).unwrap()
}

#[test]
fn github_saves_what_is_warmer_and_pull_requests_only_read() {
    let mut github = GitHub {
        service: Service::new(),
        caches: Vec::new(),
    };
    let (one, two) = ([("a", "one")], [("a", "one"), ("b", "two")]);
    // A pull request before there is any cache.
    let job = github.run("pull_request", &one);
    assert_eq!(job.check().compiled(), 1);
    assert!(
        summary(&job).contains("There is no cache in"),
        "{}",
        summary(&job)
    );
    assert!(github.caches.is_empty());

    let job = github.run("push", &one);
    assert_eq!((job.check().compiled(), github.caches.len()), (1, 1));
    assert!(summary(&job).contains("| built | 1 ("), "{}", summary(&job));
    assert!(github.caches[0].starts_with("keepwarm-Linux-"));

    // The same again: nothing is built, and nothing is saved.
    let job = github.run("push", &one);
    assert_eq!(
        (job.check().compiled(), github.caches.len()),
        (0, 1),
        "{}",
        job.output
    );
    assert_eq!(output(&job, "a"), "ONE");
    assert!(
        summary(&job).contains("| hits on disk | 1 |"),
        "{}",
        summary(&job)
    );

    let job = github.run("push", &two);
    assert_eq!((job.check().compiled(), github.caches.len()), (1, 2));
    assert_eq!(output(&job, "b"), "TWO");

    // A pull request finds what the newest has, builds what is new, and leaves no trace.
    let three = [("a", "one"), ("b", "two"), ("c", "three")];
    let job = github.run("pull_request", &three);
    assert_eq!(
        (job.check().compiled(), github.caches.len()),
        (1, 2),
        "{}",
        job.output
    );
    assert_eq!(output(&job, "c"), "THREE");
    let text = summary(&job);
    assert!(
        text.contains("only read") && !text.contains("| entries | 0 |"),
        "{text}"
    );
    let job = github.run("push", &two);
    assert_eq!((job.check().compiled(), github.caches.len()), (0, 2));
}

#[test]
fn github_tells_what_the_cache_did_for_a_build_that_failed_and_saves_nothing() {
    let mut github = GitHub {
        service: Service::new(),
        caches: Vec::new(),
    };
    // There is nothing to compile, and the compiler fails.
    let job = github.run("push", &[]);
    assert_ne!(job.code, Some(0), "{}", job.output);
    assert!(summary(&job).contains("| misses |"), "{}", summary(&job));
    assert!(github.caches.is_empty());
}

/// Runs the job of GitLab's recipe; the cache is a folder.
fn gitlab(service: &mut Service, event: &str, sources: &[(&str, &str)]) -> Job {
    let page = yaml("GitLab");
    let build = &page["build"];
    let dir = service.checkout(sources);
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    let directory = dir.to_str().unwrap();
    let mut set = |from: &Yaml| {
        for (name, value) in from.as_hash().unwrap() {
            let value = value.as_str().unwrap();
            let value = value.replace("$CI_PROJECT_DIR", directory);
            variables.insert(name.as_str().unwrap().to_owned(), value);
        }
    };
    set(&build["variables"]);
    for rule in build["rules"].as_vec().unwrap() {
        let Some(condition) = rule["if"].as_str() else {
            assert_eq!(rule["when"].as_str(), Some("on_success"));
            break;
        };
        assert_eq!(condition, "$CI_PIPELINE_SOURCE == \"merge_request_event\"");
        if event == "merge_request_event" {
            set(&rule["variables"]);
            break;
        }
    }
    let cache = &build["cache"];
    assert_eq!(cache["policy"].as_str(), Some("$POLICY"));
    let policy = variables["POLICY"].clone();
    assert!(["pull", "pull-push"].contains(&&policy[..]), "{policy}");
    let kept = service.path(cache["key"].as_str().unwrap());
    std::fs::create_dir_all(&kept).unwrap();
    let paths = cache["paths"].as_vec().unwrap();
    let paths: Vec<_> = paths.iter().map(|path| path.as_str().unwrap()).collect();
    for path in &paths {
        if kept.join(path).exists() {
            std::fs::copy(kept.join(path), dir.join(path)).unwrap();
        }
    }
    let lines = build["script"].as_vec().unwrap();
    let lines: Vec<_> = lines.iter().map(|line| line.as_str().unwrap()).collect();
    let job = service.run(&dir, &lines.join("\n"), &variables);
    for path in paths {
        if policy == "pull-push" && dir.join(path).exists() {
            std::fs::copy(dir.join(path), kept.join(path)).unwrap();
        }
    }
    job
}

#[test]
fn gitlab_keeps_an_archive_and_merge_requests_only_read_it() {
    let mut service = Service::new();
    let archive = service.path("keepwarm/keepwarm.tar.zst");
    let one = [("a", "one")];
    let two = [("a", "one"), ("b", "two")];
    let job = gitlab(&mut service, "merge_request_event", &one);
    assert_eq!(job.check().compiled(), 1);
    assert!(!archive.exists());
    let job = gitlab(&mut service, "push", &one);
    assert_eq!(job.check().compiled(), 1);
    let first = std::fs::read(&archive).unwrap();
    let job = gitlab(&mut service, "push", &one);
    assert_eq!(job.check().compiled(), 0, "{}", job.output);
    assert!(
        job.output.contains("| hits on disk | 1 |"),
        "{}",
        job.output
    );
    assert_eq!(std::fs::read(&archive).unwrap(), first, "nothing was added");
    let job = gitlab(&mut service, "merge_request_event", &two);
    assert_eq!(job.check().compiled(), 1);
    assert_eq!(std::fs::read(&archive).unwrap(), first);
    let job = gitlab(&mut service, "push", &two);
    assert_eq!(job.check().compiled(), 1);
    let job = gitlab(&mut service, "push", &two);
    assert_eq!(job.check().compiled(), 0);
    // A damaged archive is no reason to fail, and is replaced.
    std::fs::write(&archive, &first[..first.len() / 2]).unwrap();
    let job = gitlab(&mut service, "push", &two);
    assert!(job.check().compiled() > 0, "{}", job.output);
    assert!(
        job.output.contains("goes on with what is sound"),
        "{}",
        job.output
    );
    let job = gitlab(&mut service, "push", &two);
    assert_eq!(job.check().compiled(), 0);
}

/// Runs the only shell recipe of a heading, or the n-th.
fn shell(service: &mut Service, (heading, n): (&str, usize), sources: &[(&str, &str)]) -> Job {
    let dir = service.checkout(sources);
    let shared = service.path("shared");
    std::fs::create_dir_all(&shared).unwrap();
    let number = dir.file_name().unwrap().to_str().unwrap().to_owned();
    let variables = [
        ("SHARED".to_owned(), shared.display().to_string()),
        ("JOB".to_owned(), number),
    ];
    service.run(&dir, &blocks(heading, "sh")[n], &variables.into())
}

#[test]
fn a_directory_that_stays_serves_every_job() {
    let mut service = Service::new();
    let recipe = ("A directory that stays", 0);
    assert_eq!(blocks(recipe.0, "sh").len(), 1);
    let job = shell(&mut service, recipe, &[("a", "one")]);
    assert_eq!(job.check().compiled(), 1);
    let job = shell(&mut service, recipe, &[("a", "one"), ("b", "two")]);
    assert_eq!(job.check().compiled(), 1);
    assert!(
        job.output.contains("| hits on disk | 1 |"),
        "{}",
        job.output
    );
    let job = shell(&mut service, recipe, &[("b", "two")]);
    assert_eq!(job.check().compiled(), 0);
}

#[test]
fn a_folder_on_a_network_keeps_what_every_job_added() {
    let mut service = Service::new();
    let recipe = ("A folder on a network", 0);
    assert_eq!(blocks(recipe.0, "sh").len(), 1);
    let archive = service.path("shared/keepwarm.tar.zst");
    let job = shell(&mut service, recipe, &[("a", "one")]);
    assert_eq!(job.check().compiled(), 1);
    let first = std::fs::read(&archive).unwrap();
    let job = shell(&mut service, recipe, &[("a", "one")]);
    assert_eq!(job.check().compiled(), 0);
    assert_eq!(std::fs::read(&archive).unwrap(), first);
    let job = shell(&mut service, recipe, &[("b", "two")]);
    assert_eq!(job.check().compiled(), 1);
    let job = shell(&mut service, recipe, &[("a", "one"), ("b", "two")]);
    assert_eq!(job.check().compiled(), 0);
    std::fs::write(&archive, &first[..first.len() / 2]).unwrap();
    let job = shell(&mut service, recipe, &[("a", "one"), ("b", "two")]);
    assert!(job.check().compiled() > 0, "{}", job.output);
    let job = shell(&mut service, recipe, &[("a", "one"), ("b", "two")]);
    assert_eq!(job.check().compiled(), 0);
}

#[test]
fn several_jobs_become_one_cache() {
    let mut service = Service::new();
    let heading = "Several jobs at once";
    assert_eq!(blocks(heading, "sh").len(), 2);
    for folder in ["shared/jobs", "shared/archives"] {
        std::fs::create_dir_all(service.path(folder)).unwrap();
    }
    let sources = [("a", "one"), ("b", "two"), ("c", "three"), ("d", "four")];
    for (n, source) in sources.iter().enumerate() {
        let dir = service.checkout(&[*source]);
        let keepwarm = service.path(&format!("shared/jobs/{n}"));
        let variables = [("KEEPWARM_DIR".to_owned(), keepwarm.display().to_string())];
        let mut script = "./build.sh".to_owned();
        if n > 1 {
            // Those that hand over a file.
            script += "; keepwarm export job.tar.zst";
        }
        service.run(&dir, &script, &variables.into()).check();
        if n > 1 {
            std::fs::remove_dir_all(&keepwarm).unwrap();
            let archive = service.path(&format!("shared/archives/{n}.tar.zst"));
            std::fs::rename(dir.join("job.tar.zst"), archive).unwrap();
        }
    }
    shell(&mut service, (heading, 0), &[]).check();
    shell(&mut service, (heading, 1), &[]).check();
    let job = shell(&mut service, ("A directory that stays", 0), &sources);
    assert_eq!(job.check().compiled(), 0, "{}", job.output);
}

#[test]
fn every_recipe_of_the_page_is_run() {
    let page = include_str!("../../../docs/ci.md");
    let all = page.matches("\n```").count() / 2;
    let run = [
        ("GitHub Actions", "yaml"),
        ("GitLab", "yaml"),
        ("A directory that stays", "sh"),
        ("A folder on a network", "sh"),
        ("Several jobs at once", "sh"),
    ];
    let run = run.map(|(heading, language)| blocks(heading, language).len());
    assert_eq!(run.iter().sum::<usize>(), all, "a recipe is run by no test");
}

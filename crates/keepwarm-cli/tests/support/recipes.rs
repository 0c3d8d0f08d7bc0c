//! Runs the recipes of `docs/ci.md`: what the services do beside the shell is done with folders.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses what it needs, and fails by panicking"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use yaml_rust2::{Yaml, YamlLoader};

/// The code blocks in `language` below the heading `## heading`.
pub fn blocks(heading: &str, language: &str) -> Vec<String> {
    let page = include_str!("../../../../docs/ci.md");
    let section = page.split("\n## ").find(|text| text.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("docs/ci.md has no heading {heading}"));
    let fence = format!("```{language}\n");
    let blocks = section.split(&fence[..]).skip(1);
    let blocks = blocks.map(|text| text.split("```").next().unwrap().to_owned());
    blocks.collect()
}

/// The only code block of a heading, as YAML.
pub fn yaml(heading: &str) -> Yaml {
    let blocks = blocks(heading, "yaml");
    assert_eq!(blocks.len(), 1, "{heading}");
    YamlLoader::load_from_str(&blocks[0]).unwrap().remove(0)
}

/// Copies a folder with all that is in it, as an archive of it does.
pub fn copy(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).unwrap();
    }
    let done = Command::new("cp").arg("-r").arg(from).arg(to).status();
    assert!(done.unwrap().success());
}

/// A folder in which jobs run, with what outlives them beside their checkouts.
pub struct Service {
    dir: tempfile::TempDir,
    jobs: u32,
}

/// How a job ended.
#[derive(Debug)]
pub struct Job {
    pub dir: PathBuf,
    pub output: String,
    pub code: Option<i32>,
}

impl Job {
    pub fn check(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{}", self.output);
        self
    }

    /// How often the compiler ran in it.
    pub fn compiled(&self) -> usize {
        let runs = std::fs::read_to_string(self.dir.join("runs"));
        runs.map_or(0, |runs| runs.lines().count())
    }
}

/// What builds: each of `*.in` is compiled to `*.out`, which takes a while and is noted in `runs`.
const BUILD: &str = "\
#!/bin/sh
set -e
for file in *.in; do
    out=\"${file%.in}.out\"
    keepwarm exec --output \"$out\" -- compile \"$file\" \"$out\"
done
";
const COMPILE: &str = "#!/bin/sh\necho \"$1\" >> runs\ntr a-z A-Z < \"$1\" > \"$2\"\n";

/// Written by a process of its own: what this one has open for writing, a child that another test
/// starts at the moment has too, and nobody can run it then.
fn executable(path: &Path, text: &str) {
    let mut write = Command::new("sh");
    write.args(["-c", "printf %s \"$1\" > \"$0\" && chmod +x \"$0\""]);
    assert!(write.arg(path).arg(text).status().unwrap().success());
}

impl Service {
    pub fn new() -> Self {
        let service = Self {
            dir: tempfile::tempdir().unwrap(),
            jobs: 0,
        };
        // At the same place for every job, as compilers are.
        std::fs::create_dir(service.path("bin")).unwrap();
        executable(&service.path("bin/compile"), COMPILE);
        service
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A checkout of its own for the next job, with these sources.
    pub fn checkout(&mut self, sources: &[(&str, &str)]) -> PathBuf {
        self.jobs += 1;
        let dir = self.path(&format!("job{}", self.jobs));
        std::fs::create_dir(&dir).unwrap();
        executable(&dir.join("build.sh"), BUILD);
        for (name, text) in sources {
            std::fs::write(dir.join(format!("{name}.in")), text).unwrap();
        }
        dir
    }

    /// Runs a script in a checkout, as the services do: the first command that fails ends it.
    pub fn run(&self, dir: &Path, script: &str, variables: &BTreeMap<String, String>) -> Job {
        let program = assert_cmd::cargo::cargo_bin!("keepwarm").to_path_buf();
        let folder = program.parent().unwrap().to_path_buf();
        let old = std::env::var_os("PATH").unwrap();
        let mut paths = vec![folder, self.path("bin")];
        paths.extend(std::env::split_paths(&old));
        let mut command = Command::new("bash");
        command.args(["-e", "-o", "pipefail", "-c", script]);
        command.current_dir(dir);
        for name in ["KEEPWARM_DIR", "KEEPWARM_MODE", "KEEPWARM_MAX_SIZE"] {
            command.env_remove(name);
        }
        command.env("PATH", std::env::join_paths(paths).unwrap());
        command.env_remove("GITHUB_STEP_SUMMARY").envs(variables);
        let done = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Job {
            dir: dir.to_path_buf(),
            output: text(&done.stdout) + &text(&done.stderr),
            code: done.status.code(),
        }
    }
}

/// What stands for values in a workflow of GitHub's: names with dots, and what they are.
pub type Values = BTreeMap<String, String>;

/// An expression of GitHub's, as far as the recipes use them. False is the empty text.
pub fn evaluate(expression: &str, values: &Values) -> String {
    if let Some((left, right)) = expression.split_once("||") {
        let left = evaluate(left, values);
        return if left.is_empty() {
            evaluate(right, values)
        } else {
            left
        };
    }
    if let Some((left, right)) = expression.split_once("&&") {
        let left = evaluate(left, values);
        return if left.is_empty() {
            left
        } else {
            evaluate(right, values)
        };
    }
    for (operator, equal) in [("==", true), ("!=", false)] {
        if let Some((left, right)) = expression.split_once(operator) {
            let is_equal = evaluate(left, values) == evaluate(right, values);
            return if is_equal == equal {
                "true".to_owned()
            } else {
                String::new()
            };
        }
    }
    let atom = expression.trim();
    if let Some(text) = atom
        .strip_prefix('\'')
        .and_then(|atom| atom.strip_suffix('\''))
    {
        return text.to_owned();
    }
    if atom == "always()" {
        return "true".to_owned();
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    assert!(
        !atom.is_empty() && atom.chars().all(is_name),
        "{expression:?} is not understood"
    );
    // What is not there is empty, as it is there; but a context that is not known is a mistake.
    let known = ["github.", "runner.", "env.", "steps."];
    assert!(
        known.iter().any(|context| atom.starts_with(context)),
        "{atom}"
    );
    values.get(atom).cloned().unwrap_or_default()
}

/// A text with its expressions replaced.
pub fn expand(text: &str, values: &Values) -> String {
    let mut parts = text.split("${{");
    let mut expanded = parts.next().unwrap().to_owned();
    for part in parts {
        let (expression, rest) = part.split_once("}}").unwrap();
        expanded += &evaluate(expression, values);
        expanded += rest;
    }
    expanded
}

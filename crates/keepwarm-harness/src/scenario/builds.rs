//! Several processes want the same artifacts; some are killed, some stopped for a while. Each
//! artifact is built once, unless its builder was killed before it was on disk.

use super::{Context, Outcome, Scenario, Target, arg, finish};
use crate::child::builder::Said;
use crate::content::Rng;
use crate::process::{End, Running};
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "builds",
    about: "several processes build the same keys; some are killed, some stopped for a while",
    run,
};

const WATCHED: [Fault; 5] = [
    Fault::Wrong,
    Fault::Twice,
    Fault::Crash,
    Fault::Hang,
    Fault::Error,
];
const PROCESSES: usize = 4;
const KEYS: u32 = 60;
/// Far less than a cache waits for another one's build.
const PATIENCE: Duration = Duration::from_secs(60);

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    let rounds = context.rounds(5, 60, 300);
    let mut tallies = Vec::new();
    for (name, flag, expect) in [
        ("builds", None, Expect::Clean),
        ("builds on eviction", Some("--on-eviction"), Expect::Clean),
        (
            "builds without waiting",
            Some("--no-wait"),
            Expect::Caught(Fault::Twice),
        ),
    ] {
        let mut tally = Tally::new(name, expect, &WATCHED);
        if !context.wants(&tally) {
            continue;
        }
        let rounds = match expect {
            Expect::Clean => rounds,
            Expect::Caught(_) => 1,
        };
        for round in 0..rounds {
            let seed = context.seed.wrapping_mul(1_000).wrapping_add(round);
            let dir = context.temp.join(format!("{name}-{seed}"));
            fs::create_dir(&dir)?;
            let hint = format!("seed {} round {round}", context.seed);
            Round::new(&dir, seed, flag).run(&hint, &mut tally)?;
            fs::remove_dir_all(&dir)?;
            tally.add("rounds", 1);
        }
        finish(&mut tallies, tally);
    }
    Ok(tallies)
}

/// A process that builds.
struct Builder {
    running: Running,
    log: PathBuf,
    killed: bool,
}

struct Round<'a> {
    dir: &'a Path,
    target: Target,
    flag: Option<&'static str>,
    rng: Rng,
    builders: Vec<Builder>,
}

impl<'a> Round<'a> {
    fn new(dir: &'a Path, seed: u64, flag: Option<&'static str>) -> Self {
        Self {
            dir,
            target: Target {
                kind: Kind::Tiered,
                dir: dir.join("cache"),
                budget: 4 << 30,
                keys: KEYS,
            },
            flag,
            rng: Rng::new(seed),
            builders: Vec::new(),
        }
    }

    fn start(&mut self) -> Outcome<()> {
        let output = self.dir.join(format!("builder{}", self.builders.len()));
        let log = output.with_extension("log");
        fs::write(&log, "")?;
        let mut args = self.target.args("builder", self.rng.next());
        arg(&mut args, "--log", log.display());
        args.extend(self.flag.map(str::to_owned));
        self.builders.push(Builder {
            running: Running::start(&[], &args, &output)?,
            log,
            killed: false,
        });
        Ok(())
    }

    fn run(mut self, hint: &str, tally: &mut Tally) -> Outcome<()> {
        for _ in 0..PROCESSES {
            self.start()?;
        }
        for _ in 0..PROCESSES {
            std::thread::sleep(Duration::from_micros(5_000 + self.rng.below(60_000)));
            let at = self.rng.index(self.builders.len());
            let builder = &mut self.builders[at];
            if !builder.running.is_running() {
                continue;
            }
            if self.rng.below(3) == 0 {
                stop_a_while(&builder.running, self.rng.below(150));
                tally.add("stops", 1);
            } else {
                builder.killed = true;
                builder.running.kill();
                tally.add("kills", 1);
                self.start()?;
            }
        }
        self.wait(hint, tally)?;
        // What was built is there for who comes later.
        self.start()?;
        self.wait(hint, tally)?;
        self.count(hint, tally)
    }

    fn wait(&mut self, hint: &str, tally: &mut Tally) -> Outcome<()> {
        for builder in self.builders.iter_mut().filter(|b| !b.killed) {
            let end = builder.running.wait(PATIENCE)?;
            let said = builder.running.stderr();
            match end {
                End::Fine => {}
                End::Failed => tally.fault(Fault::Error, format_args!("{hint}: {said}")),
                End::Crashed(how) => {
                    tally.fault(Fault::Crash, format_args!("{hint}: {how}: {said}"));
                }
                End::Hung => tally.fault(Fault::Hang, format_args!("{hint}: {said}")),
            }
        }
        Ok(())
    }

    /// A build is excused if its process was killed before it said that the artifact is on disk.
    fn count(&self, hint: &str, tally: &mut Tally) -> Outcome<()> {
        let mut counted = [0_u64; KEYS as usize];
        for builder in &self.builders {
            let said = Said::read(&fs::read_to_string(&builder.log)?);
            for (what, key) in &said {
                let kept = || said.contains(&(Said::Kept, *key));
                match what {
                    Said::Builds if builder.killed && !kept() => tally.add("lost_builds", 1),
                    Said::Builds => counted[*key as usize % counted.len()] += 1,
                    Said::Wrong => tally.fault(Fault::Wrong, format_args!("{hint}: key {key}")),
                    Said::Kept | Said::Done => {}
                }
            }
            let stats = builder.running.stdout();
            let mut words = stats
                .split_whitespace()
                .filter_map(|word| word.parse().ok());
            tally.add("waits", words.next().unwrap_or(0));
            tally.add("shared", words.next().unwrap_or(0));
        }
        for (key, builds) in counted.iter().enumerate() {
            tally.add("builds", *builds);
            if *builds > 1 {
                tally.fault(
                    Fault::Twice,
                    format_args!("{hint}: key {key}: {builds} times"),
                );
            }
        }
        Ok(())
    }
}

/// Stops a process and all that belongs to it for so many milliseconds.
fn stop_a_while(running: &Running, millis: u64) {
    let Some(group) = i32::try_from(running.id()).ok().and_then(Pid::from_raw) else {
        return;
    };
    // It may have ended: then there is nothing to stop.
    if kill_process_group(group, Signal::STOP).is_ok() {
        std::thread::sleep(Duration::from_millis(millis));
        kill_process_group(group, Signal::CONT).ok();
    }
}

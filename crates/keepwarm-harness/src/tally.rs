//! Counters, and what they say in the end.

use std::fmt;

/// What must not happen, in the order in which it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Bytes that were never put under the key.
    Wrong,
    /// Acknowledged and gone.
    Lost,
    /// Older than what was acknowledged.
    Stale,
    /// The directory could not be used any more.
    Unusable,
    Crash,
    Hang,
    Error,
    /// Not there after it was put anew.
    Sick,
    /// Temporary files that nobody owned were left.
    Litter,
    /// A put said to be stored and was not.
    Dropped,
    /// No put or flush worked after there was room again.
    Stuck,
    /// More than the budget.
    Over,
    /// The totals and the directory tell different things.
    Disagree,
    /// Something outside of the directory was changed.
    Outside,
    /// More memory than anything that was put can explain.
    Memory,
    /// Built by more than one process.
    Twice,
}

const FAULTS: [(Fault, &str); 16] = [
    (Fault::Wrong, "wrong"),
    (Fault::Lost, "lost"),
    (Fault::Stale, "stale"),
    (Fault::Unusable, "unusable"),
    (Fault::Crash, "crashes"),
    (Fault::Hang, "hangs"),
    (Fault::Error, "errors"),
    (Fault::Sick, "unhealed"),
    (Fault::Litter, "litter"),
    (Fault::Dropped, "dropped"),
    (Fault::Stuck, "stuck"),
    (Fault::Over, "over_budget"),
    (Fault::Disagree, "disagree"),
    (Fault::Outside, "outside"),
    (Fault::Memory, "allocation"),
    (Fault::Twice, "built_twice"),
];

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        let name = FAULTS.iter().find(|(known, _)| *known == self);
        name.map_or("?", |(_, name)| name)
    }
}

/// What must come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Every counter of what must be zero is zero.
    Clean,
    /// A control: this one is not.
    Caught(Fault),
}

/// The counters of one run of one scenario.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    name: String,
    expect: Expect,
    watched: Vec<(Fault, u64)>,
    facts: Vec<(&'static str, u64)>,
    /// What was printed of faults.
    told: Vec<String>,
}

/// Notes printed of one kind of fault in one run.
const NOTES: u64 = 4;

/// Facts of which the highest is kept.
const MAXIMA: [&str; 6] = [
    "peak_kib",
    "most_bytes",
    "most_over",
    "slowest_ms",
    "drift_kib",
    "drift_entries",
];

impl Tally {
    /// `watched`: what must be zero.
    pub(crate) fn new(name: impl Into<String>, expect: Expect, watched: &[Fault]) -> Self {
        Self {
            name: name.into(),
            expect,
            watched: watched.iter().map(|fault| (*fault, 0)).collect(),
            facts: Vec::new(),
            told: Vec::new(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Counts something that is just told.
    pub(crate) fn add(&mut self, name: &'static str, count: u64) {
        match self.facts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += count,
            None => self.facts.push((name, count)),
        }
    }

    /// Keeps the highest value seen.
    pub(crate) fn most(&mut self, name: &'static str, value: u64) {
        match self.facts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, most)) => *most = (*most).max(value),
            None => self.facts.push((name, value)),
        }
    }

    /// Says something that may help, where nothing is meant to go wrong.
    pub(crate) fn note(&self, note: impl fmt::Display) {
        if self.expect == Expect::Clean {
            eprintln!("  {}: {note}", self.name);
        }
    }

    /// Counts a fault, and says where to look; of what is not watched, a fact.
    pub(crate) fn fault(&mut self, fault: Fault, note: impl fmt::Display) {
        let Some((_, count)) = self.watched.iter_mut().find(|(known, _)| *known == fault) else {
            return self.add(fault.name(), 1);
        };
        *count += 1;
        if self.expect == Expect::Clean && *count <= NOTES {
            let note = format!("  {} {}: {note}", self.name, fault.name());
            eprintln!("{note}");
            self.told.push(note);
        }
    }

    /// Adds everything to another one, as far as that watches it.
    pub(crate) fn pour_into(self, other: &mut Self) {
        for (fault, count) in self.watched {
            if let Some((_, sum)) = other.watched.iter_mut().find(|(known, _)| *known == fault) {
                *sum += count;
            }
        }
        for (name, value) in self.facts {
            if MAXIMA.contains(&name) {
                other.most(name, value);
            } else {
                other.add(name, value);
            }
        }
        other.told.extend(self.told);
    }

    /// One of the same name and kind that has counted nothing, for a thread of its own.
    pub(crate) fn fresh(&self) -> Self {
        let watched: Vec<Fault> = self.watched.iter().map(|(fault, _)| *fault).collect();
        Self::new(self.name.clone(), self.expect, &watched)
    }

    /// The same, of which only some faults are watched.
    pub(crate) fn only(&self, watched: &[Fault]) -> Self {
        Self::new(self.name.clone(), self.expect, watched)
    }

    /// What this run is a control for; `None` if it is none.
    pub(crate) fn control(&self) -> Option<Fault> {
        match self.expect {
            Expect::Clean => None,
            Expect::Caught(fault) => Some(fault),
        }
    }

    /// What was printed of faults, and the line of the run.
    pub(crate) fn summary(&self) -> String {
        let mut lines = self.told.clone();
        lines.push(self.to_string());
        lines.join("\n")
    }

    /// What must be zero.
    pub(crate) fn watched(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.watched
            .iter()
            .map(|(fault, count)| (fault.name(), *count))
    }

    /// What is just told.
    pub(crate) fn facts(&self) -> &[(&'static str, u64)] {
        &self.facts
    }

    /// One of them; 0 if nothing was told of it.
    pub(crate) fn fact(&self, name: &str) -> u64 {
        let mut facts = self.facts.iter();
        facts
            .find(|(known, _)| *known == name)
            .map_or(0, |(_, n)| *n)
    }

    pub(crate) fn verdict(&self) -> &'static str {
        match (self.is_as_expected(), self.expect) {
            (true, Expect::Clean) => "ok",
            (true, Expect::Caught(_)) => "ok (caught)",
            (false, Expect::Clean) => "FAILED",
            (false, Expect::Caught(_)) => "FAILED (not caught)",
        }
    }

    pub(crate) fn is_as_expected(&self) -> bool {
        match self.expect {
            Expect::Clean => self.watched.iter().all(|(_, count)| *count == 0),
            Expect::Caught(fault) => self
                .watched
                .iter()
                .any(|(known, count)| *known == fault && *count > 0),
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<28} {}:", self.name, self.verdict())?;
        for (fault, count) in &self.watched {
            write!(f, " {}={count}", fault.name())?;
        }
        for (name, count) in &self.facts {
            write!(f, " {name}={count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_must_be_caught_and_the_store_must_not() {
        for (expect, clean, faulty) in [
            (Expect::Clean, true, false),
            (Expect::Caught(Fault::Lost), false, true),
        ] {
            let mut tally = Tally::new("x", expect, &[Fault::Lost]);
            tally.fault(Fault::Wrong, "not watched");
            assert_eq!(tally.is_as_expected(), clean);
            tally.fault(Fault::Lost, "");
            assert_eq!(tally.is_as_expected(), faulty);
        }
    }
}

//! What an audit has found, for people and as JSON.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

/// Offenders that are kept for one invariant; all are counted.
const KEPT: usize = 100;
/// Offenders that are printed for one invariant.
const SHOWN: usize = 10;

/// The findings of one audit.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether every invariant that was checked holds and the platform was at rest.
    pub holds: bool,
    /// How long the platform took to come to rest, or was waited for.
    pub settle_seconds: f64,
    /// One for each rule of the promise, in the order of checking.
    pub invariants: Vec<Invariant>,
    /// How much was looked at.
    pub numbers: BTreeMap<&'static str, u64>,
}

/// One rule, and whatever breaks it.
#[derive(Clone, Debug, Serialize)]
pub struct Invariant {
    /// Stable name.
    pub name: &'static str,
    /// Whether it holds.
    pub outcome: Outcome,
    /// How many things were looked at.
    pub checked: u64,
    /// How many offenders there are.
    pub broken: u64,
    /// The first hundred of them.
    pub offenders: Vec<Offender>,
    /// What could not be checked, and what is worth knowing.
    pub notes: Vec<String>,
}

/// The judgement on one invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing breaks it.
    Ok,
    /// It has offenders.
    Broken,
    /// It could not be judged; a note says why.
    NotChecked,
}

/// One thing that breaks an invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offender {
    /// What it is, such as `order 0199…`.
    pub subject: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Report {
    pub(super) fn new(
        settle_seconds: f64,
        invariants: Vec<Invariant>,
        numbers: BTreeMap<&'static str, u64>,
    ) -> Self {
        let holds = invariants.iter().all(|invariant| invariant.outcome == Outcome::Ok);
        Self { holds, settle_seconds, invariants, numbers }
    }

    /// The names of the invariants that are broken.
    #[must_use]
    pub fn broken(&self) -> Vec<&'static str> {
        let broken = self.invariants.iter().filter(|invariant| invariant.outcome == Outcome::Broken);
        broken.map(|invariant| invariant.name).collect()
    }
}

impl Invariant {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, outcome: Outcome::Ok, checked: 0, broken: 0, offenders: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn not_checked(name: &'static str, why: impl Into<String>) -> Self {
        Self { outcome: Outcome::NotChecked, notes: vec![why.into()], ..Self::new(name) }
    }

    /// Counts an offender, and keeps it while there is room.
    pub(super) fn offend(&mut self, subject: impl fmt::Display, problem: impl fmt::Display) {
        self.outcome = Outcome::Broken;
        self.broken += 1;
        if self.offenders.len() < KEPT {
            self.offenders.push(Offender { subject: subject.to_string(), problem: problem.to_string() });
        }
    }

    /// [`Self::offend`] unless it holds.
    pub(super) fn expect(
        &mut self,
        holds: bool,
        subject: impl fmt::Display,
        problem: impl FnOnce() -> String,
    ) {
        if !holds {
            self.offend(subject, problem());
        }
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for invariant in &self.invariants {
            write!(f, "{invariant}")?;
        }
        writeln!(f)?;
        for (name, number) in &self.numbers {
            writeln!(f, "{name:<26} {number:>12}")?;
        }
        writeln!(f)?;
        let broken = self.broken();
        if self.holds {
            let seconds = self.settle_seconds;
            writeln!(
                f,
                "The promise holds: nothing lost, doubled or overtaken (at rest after {seconds:.1} s)."
            )
        } else if broken.is_empty() {
            writeln!(f, "Not all of the promise could be checked.")
        } else {
            let offenders: u64 = self.invariants.iter().map(|invariant| invariant.broken).sum();
            writeln!(f, "The promise is BROKEN: {} ({}).", broken.join(", "), count(offenders))
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, checked, broken, .. } = self;
        match self.outcome {
            Outcome::Ok => writeln!(f, "ok           {name:<18} {checked} checked")?,
            Outcome::Broken => writeln!(f, "BROKEN       {name:<18} {}, {checked} checked", count(*broken))?,
            Outcome::NotChecked => writeln!(f, "not checked  {name}")?,
        }
        for Offender { subject, problem } in self.offenders.iter().take(SHOWN) {
            writeln!(f, "               {subject}: {problem}")?;
        }
        let shown = self.offenders.len().min(SHOWN) as u64;
        if *broken > shown {
            writeln!(f, "               and {} more", broken - shown)?;
        }
        for note in &self.notes {
            writeln!(f, "               note: {note}")?;
        }
        Ok(())
    }
}

fn count(offenders: u64) -> String {
    format!("{offenders} offender{}", if offenders == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offender_is_counted_and_few_are_shown() {
        let mut invariant = Invariant::new("order-history");
        for order in 0..150 {
            invariant.offend(format_args!("order {order}"), "is lost");
        }
        let report =
            Report::new(0.5, vec![invariant, Invariant::new("acked")], BTreeMap::from([("orders", 7)]));
        assert!(!report.holds);
        assert_eq!((report.broken(), report.invariants[0].offenders.len()), (vec!["order-history"], 100));
        let text = report.to_string();
        assert!(text.contains("BROKEN       order-history      150 offenders, 0 checked\n"), "{text}");
        assert!(text.contains("order 9: is lost\n") && !text.contains("order 10: is lost"), "{text}");
        assert!(text.contains("and 140 more\n"), "{text}");
        assert!(text.ends_with("The promise is BROKEN: order-history (150 offenders).\n"), "{text}");
    }

    #[test]
    fn what_was_not_checked_does_not_hold() {
        let skipped = Invariant::not_checked("payments", "records are on their way");
        let report = Report::new(0.0, vec![skipped], BTreeMap::new());
        assert!(!report.holds && report.broken().is_empty());
        assert!(report.to_string().contains("Not all of the promise could be checked."));
    }
}

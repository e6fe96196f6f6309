//! What has become of a replay, counted from its results.

use std::{collections::HashSet, process::ExitCode};

use anyhow::Context as _;
use consumer::dead_letters::{self, Entry, Progress};
use serde::Serialize;
use uuid::Uuid;

use super::{
    desk::Office,
    text::{count, plain},
};
use crate::output;

/// A replay with what has become of its letters so far.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    #[serde(flatten)]
    pub(super) progress: Progress,
    pub(super) counts: Counts,
    pub(super) results: Vec<Entry>,
}

/// Letters, told apart by whether they were selected or waited behind one that was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) selected: i64,
    pub(super) selected_replayed: i64,
    pub(super) selected_dead_again: i64,
    pub(super) waiting_replayed: i64,
    pub(super) waiting_dead_again: i64,
    /// Selected, and neither: still to come, or taken from the replay by a discard.
    pub(super) selected_open: i64,
}

impl Outcome {
    /// Reads it. The consumer is named as people say it.
    pub(super) async fn of(office: &Office, progress: Progress) -> anyhow::Result<Self> {
        let read = async {
            let selected = dead_letters::selected(&office.pool, progress.id).await?;
            let results = dead_letters::results(&office.pool, progress.id).await?;
            Ok::<_, sqlx::Error>((selected, results))
        };
        let (selected, results) = read.await.with_context(|| office.away())?;
        let counts = Counts::of(&selected.into_iter().collect(), &results);
        let progress = Progress { consumer: office.consumer().to_owned(), ..progress };
        Ok(Self { progress, counts, results })
    }

    /// Whether every letter has taken effect.
    pub(super) fn is_success(&self) -> bool {
        let Counts { selected_dead_again, waiting_dead_again, selected_open, .. } = self.counts;
        self.progress.state == "done" && selected_dead_again + waiting_dead_again + selected_open == 0
    }

    /// In one sentence, without a promise about what is still to come.
    pub(super) fn words(&self) -> String {
        let Counts { selected, selected_replayed, selected_dead_again, selected_open, .. } = self.counts;
        let Counts { waiting_replayed, waiting_dead_again, .. } = self.counts;
        if selected == 0 {
            return format!(
                "{waiting_replayed} replayed that waited behind discarded letters, {waiting_dead_again} dead again"
            );
        }
        let mut words = format!("{selected} selected, {selected_replayed} replayed");
        if waiting_replayed > 0 {
            words += &format!(" (and {waiting_replayed} that waited behind them)");
        }
        words += &format!(", {selected_dead_again} dead again");
        if waiting_dead_again > 0 {
            words += &format!(" (and {waiting_dead_again} that waited behind others)");
        }
        match self.progress.state.as_str() {
            "running" => words += ", and still running",
            _ if selected_open == 0 => {}
            "done" => words += &format!(", {selected_open} discarded meanwhile"),
            _ => words += &format!(", {selected_open} not processed yet"),
        }
        words
    }

    /// What to do next, where there is something to do.
    pub(super) fn advice(&self) -> Option<String> {
        let Progress { id, consumer, state, words, .. } = &self.progress;
        let failed = self.counts.selected_dead_again + self.counts.waiting_dead_again;
        if state == "stopped" {
            let why = plain(words.as_deref().unwrap_or("no reason is known"));
            return Some(format!(
                "It was stopped: {why}. `orderly dlq resume {id} --reason '...'` goes on with it."
            ));
        }
        (failed > 0).then(|| {
            format!(
                "What is dead again stays where it was: `orderly dlq list --consumer {consumer}` shows why."
            )
        })
    }

    /// Each letter's result as a line, with its error where it is dead again.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        self.results.iter().map(|entry| {
            let id = entry.dead_letter.unwrap_or_default();
            match entry.action.as_str() {
                "replayed" => format!("{id}  replayed"),
                action => format!("{id}  {action}  {}", plain(&entry.reason)),
            }
        })
    }
}

impl Counts {
    fn of(selected: &HashSet<Uuid>, results: &[Entry]) -> Self {
        let mut counts = Self { selected: as_count(selected.len()), ..Self::default() };
        for entry in results {
            let was_selected = entry.dead_letter.is_some_and(|letter| selected.contains(&letter));
            *match (was_selected, entry.action.as_str()) {
                (true, "replayed") => &mut counts.selected_replayed,
                (true, _) => &mut counts.selected_dead_again,
                (false, "replayed") => &mut counts.waiting_replayed,
                (false, _) => &mut counts.waiting_dead_again,
            } += 1;
        }
        counts.selected_open = counts.selected - counts.selected_replayed - counts.selected_dead_again;
        counts
    }
}

/// Says what became of replays, and returns the exit code.
pub(super) fn report(outcomes: &[Outcome], lines: bool) -> anyhow::Result<ExitCode> {
    for outcome in outcomes {
        for line in outcome.lines().filter(|_| lines) {
            output::data(line)?;
        }
    }
    for outcome in outcomes {
        output::note(format!("{}: {}", outcome.progress.consumer, outcome.words()));
        if let Some(advice) = outcome.advice() {
            output::note(advice);
        }
    }
    let success = outcomes.iter().all(Outcome::is_success);
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How far it is, while it runs.
pub(super) fn so_far(replays: &[Progress]) -> String {
    let sum = |number: fn(&Progress) -> i64| replays.iter().map(number).sum::<i64>();
    let replayed = count(sum(|replay| replay.replayed), "letter");
    let (dead_again, left) = (sum(|replay| replay.dead_again), sum(|replay| replay.left));
    format!("{replayed} replayed, {dead_again} dead again, {left} to come and what waits behind them")
}

fn as_count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    fn outcome(state: &str, selected: &[Uuid], results: &[(Uuid, &str)]) -> Outcome {
        let entry = |&(letter, action): &(Uuid, &str)| Entry {
            at: OffsetDateTime::UNIX_EPOCH,
            actor: "ada".into(),
            action: action.into(),
            dead_letter: Some(letter),
            replay: Some(Uuid::nil()),
            reason: "no\nsuch order".into(),
        };
        let results: Vec<Entry> = results.iter().map(entry).collect();
        let progress = Progress {
            id: Uuid::nil(),
            consumer: "billing".into(),
            actor: "ada".into(),
            reason: "fixed".into(),
            state: state.into(),
            words: Some("table payments is missing".into()),
            rate: None,
            selected: 0,
            replayed: 0,
            dead_again: 0,
            left: 0,
            created_at: OffsetDateTime::UNIX_EPOCH,
            ended_at: None,
        };
        let counts = Counts::of(&selected.iter().copied().collect(), &results);
        Outcome { progress, counts, results }
    }

    #[test]
    fn what_waited_is_told_apart() {
        let [one, two, behind, last] = std::array::from_fn(|_| Uuid::now_v7());
        let all = outcome("done", &[one], &[(one, "replayed")]);
        assert!(all.is_success() && all.advice().is_none());
        assert_eq!(all.words(), "1 selected, 1 replayed, 0 dead again");
        let some =
            outcome("done", &[one, two], &[(one, "replayed"), (behind, "replayed"), (two, "dead-again")]);
        assert!(!some.is_success());
        assert_eq!(some.words(), "2 selected, 1 replayed (and 1 that waited behind them), 1 dead again");
        assert_eq!(some.lines().last(), Some(format!("{two}  dead-again  no such order")));
        // Every selected one has taken effect, and not all is well.
        let behind_it = outcome("done", &[one], &[(one, "replayed"), (last, "dead-again")]);
        assert!(!behind_it.is_success());
        assert_eq!(
            behind_it.words(),
            "1 selected, 1 replayed, 0 dead again (and 1 that waited behind others)"
        );
    }

    #[test]
    fn what_was_not_processed_is_not_hidden() {
        let [one, two] = std::array::from_fn(|_| Uuid::now_v7());
        let stopped = outcome("stopped", &[one, two], &[(one, "replayed")]);
        assert!(!stopped.is_success());
        assert_eq!(stopped.words(), "2 selected, 1 replayed, 0 dead again, 1 not processed yet");
        assert!(stopped.advice().is_some_and(|advice| advice.contains("table payments is missing")));
        let discarded = outcome("done", &[one, two], &[(one, "replayed")]);
        assert!(!discarded.is_success());
        assert!(discarded.words().ends_with("1 discarded meanwhile"));
    }

    #[test]
    fn what_runs_is_not_said_to_be_over() {
        let one = Uuid::now_v7();
        let running = outcome("running", &[one], &[(one, "replayed")]);
        assert!(!running.is_success());
        assert_eq!(running.words(), "1 selected, 1 replayed, 0 dead again, and still running");
    }

    #[test]
    fn what_a_discard_released_was_not_selected() {
        let released = outcome("done", &[], &[(Uuid::now_v7(), "replayed")]);
        assert_eq!(released.words(), "1 replayed that waited behind discarded letters, 0 dead again");
    }
}

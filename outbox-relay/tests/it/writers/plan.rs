//! What one transaction is going to do: drawn before it begins, so that a seed repeats every decision.

use std::time::Duration;

use rand::{RngExt as _, rngs::StdRng};

use crate::scene::{KEYS, Topics};

/// A transaction.
#[derive(Debug)]
pub struct Plan {
    /// Whether it has an id long before it writes: then a high event id meets a low transaction id.
    pub early_xid: bool,
    /// How long it is open before it takes a lock.
    pub before_locks: Duration,
    /// One event each, by key, as all writers lock in one order.
    pub steps: Vec<Step>,
    /// Around the append.
    pub append: Savepoint,
    /// How long it is open with its events appended.
    pub before_end: Duration,
    /// How it ends.
    pub end: End,
    /// How long it is prepared.
    pub prepared: Duration,
}

/// One event.
#[derive(Debug)]
pub struct Step {
    pub key: String,
    pub topic: &'static str,
    pub savepoint: Savepoint,
}

/// Whether something happens inside a savepoint, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Savepoint {
    None,
    Kept,
    RolledBack,
}

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `commit`, as the outbox crate does it.
    UnitOfWork,
    /// `commit`, by hand.
    Commit,
    /// `rollback`.
    Rollback,
    /// The client is gone.
    Vanish,
    /// Two phases.
    Prepare { commit: bool },
}

impl Plan {
    /// A slow one stays open for a second or more, before its locks, with its events appended, or prepared.
    pub fn draw(random: &mut StdRng, slow: bool, topics: Topics) -> Self {
        let mut steps: Vec<Step> =
            (0..random.random_range(1..=4)).map(|_| Step::draw(random, topics)).collect();
        steps.sort_by(|a, b| a.key.cmp(&b.key));
        let end = match random.random_range(0..100) {
            0..50 if !slow => End::UnitOfWork,
            0..78 => End::Commit,
            78..88 => End::Rollback,
            88..90 => End::Vanish,
            90..97 => End::Prepare { commit: true },
            _ => End::Prepare { commit: false },
        };
        let mut pauses = [Duration::ZERO; 3];
        let pause = match slow {
            true => random.random_range(1_000..3_000),
            false if random.random_bool(0.2) => random.random_range(1..30),
            false => 0,
        };
        pauses[random.random_range(0..3)] = Duration::from_millis(pause);
        let [before_locks, before_end, prepared] = pauses;
        Self {
            early_xid: random.random_bool(0.4),
            before_locks,
            steps,
            append: Savepoint::draw(random),
            before_end,
            end,
            prepared,
        }
    }
}

impl Step {
    fn draw(random: &mut StdRng, topics: Topics) -> Self {
        Self {
            key: format!("account-{}", random.random_range(1..=KEYS)),
            topic: topics[random.random_range(0..topics.len())].0,
            savepoint: Savepoint::draw(random),
        }
    }
}

impl Savepoint {
    fn draw(random: &mut StdRng) -> Self {
        match random.random_range(0..10) {
            0..7 => Self::None,
            7..9 => Self::Kept,
            _ => Self::RolledBack,
        }
    }
}

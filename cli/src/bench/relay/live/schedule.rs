//! When each transaction is due: at random, as independent clients arrive (a Poisson process), the same in every run.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// Every publisher meets the same arrivals.
const SEED: u64 = 0x6f72_6465_726c_7921;

/// Due times of transactions, ascending.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    due: Vec<Duration>,
    duration: Duration,
    counted_from: usize,
}

impl Schedule {
    /// So many transactions a second for a warm-up, which is not counted, and then for a time. A rate of 0 is idle.
    pub(super) fn new(rate: u64, warm_up: Duration, counted: Duration) -> Self {
        let mut random = StdRng::seed_from_u64(SEED ^ rate);
        let mut due = of(rate, warm_up, Duration::ZERO, &mut random);
        let counted_from = due.len();
        due.extend(of(rate, counted, warm_up, &mut random));
        Self { due, duration: warm_up + counted, counted_from }
    }

    pub(super) fn len(&self) -> u64 {
        self.due.len() as u64
    }

    pub(super) fn duration(&self) -> Duration {
        self.duration
    }

    /// The first transaction that counts.
    pub(super) fn counted_from(&self) -> usize {
        self.counted_from
    }

    /// When a transaction is due; at the end for one that there is not.
    pub(super) fn due(&self, transaction: u64) -> Duration {
        let index = usize::try_from(transaction).unwrap_or(usize::MAX);
        self.due.get(index).copied().unwrap_or(self.duration)
    }
}

/// Given how many there are, the arrivals of a Poisson process are independent and uniform.
fn of(rate: u64, duration: Duration, from: Duration, random: &mut StdRng) -> Vec<Duration> {
    let count = (duration.as_secs_f64() * rate as f64).round() as u64;
    let mut due: Vec<Duration> =
        (0..count).map(|_| from + duration.mul_f64(random.random_range(0.0..1.0))).collect();
    due.sort_unstable();
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_as_many_as_the_rate_says_in_order_and_in_time() {
        let (warm_up, counted) = (Duration::from_secs(3), Duration::from_secs(20));
        let schedule = Schedule::new(500, warm_up, counted);
        assert_eq!((schedule.len(), schedule.counted_from()), (11_500, 1500));
        assert!(schedule.due.is_sorted() && schedule.due(11_499) < schedule.duration());
        assert!(schedule.due(1499) < warm_up && schedule.due(1500) >= warm_up);
        assert_eq!(schedule.due, Schedule::new(500, warm_up, counted).due);
        assert_eq!(Schedule::new(0, warm_up, counted).len(), 0);
    }
}

//! When each order of an open-model run is due.

use std::time::Duration;

const NANOS: u128 = 1_000_000_000;

/// A fixed arrival rate. Arrivals do not wait for answers, so that a slow platform cannot slow its own load down
/// ("coordinated omission").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    /// Arrivals each second, at least 1.
    pub(super) rate: u32,
    /// Arrivals are due before this much time has passed.
    pub(super) duration: Duration,
}

impl Schedule {
    /// How many arrivals there are.
    pub(super) fn len(self) -> u64 {
        u64::try_from((self.duration.as_nanos() * u128::from(self.rate)).div_ceil(NANOS)).unwrap_or(u64::MAX)
    }

    /// When the arrival with this number is due, from the start. Computed from the number, so that nothing adds up.
    pub(super) fn due(self, number: u64) -> Duration {
        let nanos = u128::from(number) * NANOS / u128::from(self.rate.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_exact_at_rates_that_do_not_divide_a_second() {
        let schedule = Schedule { rate: 3, duration: Duration::from_secs(30) };
        assert_eq!(schedule.len(), 90);
        assert_eq!(schedule.due(1), Duration::from_nanos(333_333_333));
        assert_eq!(schedule.due(3), Duration::from_secs(1));
        assert_eq!(schedule.due(89), Duration::from_nanos(29_666_666_666));
    }

    #[test]
    fn ends_before_the_duration_has_passed() {
        for (rate, millis) in [(1, 1), (7, 999), (1000, 1), (1000, 10_000), (65_537, 3333)] {
            let schedule = Schedule { rate, duration: Duration::from_millis(millis) };
            assert!(schedule.due(schedule.len() - 1) < schedule.duration, "{schedule:?}");
            assert!(schedule.due(schedule.len()) >= schedule.duration, "{schedule:?}");
        }
        assert_eq!(Schedule { rate: 5, duration: Duration::ZERO }.len(), 0);
    }

    #[test]
    fn does_not_drift_over_a_long_run() {
        let schedule = Schedule { rate: 9_999, duration: Duration::from_secs(1_000_000) };
        assert_eq!(schedule.due(9_999 * 1_000_000), Duration::from_secs(1_000_000));
    }
}

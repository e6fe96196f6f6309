//! How long a process that died waits before it is started again.

use std::time::Duration;

/// The first delay.
const FIRST: Duration = Duration::from_millis(250);
/// The longest delay.
const LONGEST: Duration = Duration::from_secs(10);
/// A process that lived this long is healthy: its next death starts from the first delay again.
const HEALTHY: Duration = Duration::from_secs(30);

/// Doubling delays, 250 ms to 10 s, that start over after 30 s of life.
#[derive(Debug, Default)]
pub struct Backoff {
    deaths: u32,
}

impl Backoff {
    /// The delay after a process died that had lived for `lived`.
    pub fn after(&mut self, lived: Duration) -> Duration {
        if lived >= HEALTHY {
            self.deaths = 0;
        }
        let delay = FIRST.saturating_mul(2_u32.saturating_pow(self.deaths));
        self.deaths = self.deaths.saturating_add(1);
        delay.min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_ten_seconds_and_start_over_after_a_long_life() {
        let mut backoff = Backoff::default();
        let delays: Vec<u128> = (0..8).map(|_| backoff.after(Duration::from_secs(1)).as_millis()).collect();
        assert_eq!(delays, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert_eq!(backoff.after(Duration::from_secs(30)).as_millis(), 250);
        assert_eq!(backoff.after(Duration::from_secs(29)).as_millis(), 500);
    }

    #[test]
    fn a_lifetime_of_crashes_does_not_overflow() {
        let mut backoff = Backoff { deaths: u32::MAX };
        assert_eq!(backoff.after(Duration::ZERO), LONGEST);
        assert_eq!(backoff.after(Duration::ZERO), LONGEST);
    }
}

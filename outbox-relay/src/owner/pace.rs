//! When an outbox is polled.

use std::time::Duration;

use tokio::time::Instant;

use crate::reader::Page;

/// How long after a poll the next one comes: what arrives meanwhile goes as one page. In an idle outbox it grows from the
/// first to the second, to about a ninth of the time since the last event. A writer that has been quiet for 50 ms wakes
/// it (`outbox::UnitOfWork`).
pub(super) const POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// When it is polled.
pub(super) struct Pace {
    pub due: Instant,
    pause: Duration,
}

impl Pace {
    /// At once, and often after that.
    pub fn new() -> Self {
        Self { due: Instant::now(), pause: POLL.0 }
    }

    pub fn is_due(&self) -> bool {
        self.due <= Instant::now()
    }

    pub fn polled(&mut self, began: Instant, page: Option<&Page>) {
        self.pause = if page.is_some() { POLL.0 } else { (self.pause * 9 / 8).min(POLL.1) };
        self.due = began + if page.is_some_and(|page| page.behind > 0) { Duration::ZERO } else { self.pause };
    }
}

//! A sign of life of one loop.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Beaten by a loop each time it comes round; read by the liveness probe.
#[derive(Debug)]
pub struct Heartbeat {
    name: &'static str,
    started: Instant,
    last: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl Heartbeat {
    /// A heartbeat that has just beaten.
    pub fn new(name: &'static str) -> Self {
        Self { name, started: Instant::now(), last: AtomicU64::new(0), trouble: Mutex::new(None) }
    }

    /// Whose heart it is.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The loop has come round.
    pub fn beat(&self) {
        self.last.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// What keeps the loop from its work, or some of it, while it beats on; nothing when that is over.
    pub fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// What keeps the loop from its work.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Time since the last beat.
    pub fn age(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

//! A sign of life of one loop.

use std::{
    sync::{
        OnceLock,
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
    stopped: OnceLock<String>,
}

impl Heartbeat {
    /// A heartbeat that has just beaten.
    pub fn new(name: &'static str) -> Self {
        Self { name, started: Instant::now(), last: AtomicU64::new(0), stopped: OnceLock::new() }
    }

    /// Whose heart it is.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The loop has come round.
    pub fn beat(&self) {
        self.last.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// The loop beats on but does its work no more, until an operator has mended this and restarted the process.
    pub fn stop(&self, reason: String) {
        let _ = self.stopped.set(reason);
    }

    /// Why the loop does its work no more.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.get().map(String::as_str)
    }

    /// Time since the last beat.
    pub fn age(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

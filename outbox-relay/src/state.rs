//! What an outbox is doing, in words: for `/readyz`, and for the log once per change.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// The kinds of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has happened yet.
    Starting,
    /// Another relay publishes; this one would take over.
    Standby,
    /// This relay publishes.
    Publishing,
    /// Kafka does not answer; events wait in the outbox.
    Waiting,
    /// An event cannot be published; it and all behind it wait in the outbox.
    Stopped,
    /// No session with PostgreSQL.
    Away,
    /// The relay is stopping.
    Ended,
}

/// The state of one outbox, shared with the admin server.
#[derive(Clone, Debug)]
pub struct State(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    outbox: String,
    now: Mutex<(Phase, String)>,
    changed: Arc<Notify>,
}

impl State {
    /// The state before anything has happened; `changed` is told of every change.
    pub fn new(outbox: &str, changed: Arc<Notify>) -> Self {
        let now = Mutex::new((Phase::Starting, "starting".to_owned()));
        Self(Arc::new(Inner { outbox: outbox.to_owned(), now, changed }))
    }

    /// Changes the state. The log hears of a new phase, and of new words where they name the trouble.
    pub fn set(&self, phase: Phase, words: impl Into<String>) {
        let words = words.into();
        let mut now = self.0.now.lock().unwrap_or_else(PoisonError::into_inner);
        let news = now.0 != phase || (matches!(phase, Phase::Stopped | Phase::Away) && now.1 != words);
        if now.0 == phase && now.1 == words {
            return;
        }
        *now = (phase, words);
        self.0.changed.notify_one();
        if !news {
            return;
        }
        let outbox = &self.0.outbox;
        match phase {
            Phase::Waiting | Phase::Stopped | Phase::Away => tracing::warn!(%outbox, "{}", now.1),
            _ => tracing::info!(%outbox, "{}", now.1),
        }
    }

    /// `<outbox>: <words>`.
    pub fn words(&self) -> String {
        let now = self.0.now.lock().unwrap_or_else(PoisonError::into_inner);
        format!("{}: {}", self.0.outbox, now.1)
    }
}

//! What a page in the producer still waits for.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use crate::producer::Refusal;

/// What was refused: the event's `ce_id` where it has one, and why.
pub type Refused = (Option<String>, Refusal);

/// The unanswered records of one page. Every record that is queued holds it.
#[derive(Debug)]
pub struct Pending {
    unanswered: AtomicUsize,
    refused: Mutex<Option<Refused>>,
    changed: Arc<Notify>,
}

impl Pending {
    /// Nothing is queued yet; `changed` hears of the last answer and of the first refusal.
    pub fn new(changed: Arc<Notify>) -> Self {
        Self { unanswered: AtomicUsize::new(0), refused: Mutex::default(), changed }
    }

    /// One record is about to be queued.
    pub fn add(&self) {
        self.unanswered.fetch_add(1, Ordering::AcqRel);
    }

    /// That record was not queued after all.
    pub fn take_back(&self) {
        self.unanswered.fetch_sub(1, Ordering::AcqRel);
    }

    /// A record was acknowledged, or refused. Called by the producer's thread.
    pub fn answered(&self, refusal: Option<Refused>) {
        let refused = refusal.is_some();
        if let Some(refusal) = refusal {
            self.refused().get_or_insert(refusal);
        }
        if self.unanswered.fetch_sub(1, Ordering::AcqRel) == 1 || refused {
            self.changed.notify_one();
        }
    }

    /// How many records wait for an answer.
    pub fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Acquire)
    }

    /// Whether every record is acknowledged; what was refused, as soon as one was.
    pub fn settled(&self) -> Result<bool, Refused> {
        // The count first: a refusal is stored before it is counted.
        let unanswered = self.unanswered();
        self.refused().take().map_or(Ok(unanswered == 0), Err)
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, Option<Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

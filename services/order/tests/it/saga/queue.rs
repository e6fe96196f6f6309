//! The records of one key on one topic, and its reader.

use std::collections::HashSet;

/// In order, kept for ever; each is taken from the place that the reader has committed.
#[derive(Debug)]
pub struct Queue<M> {
    records: Vec<(u64, M)>,
    committed: usize,
    inbox: HashSet<u64>,
}

impl<M: Clone> Queue<M> {
    pub fn new() -> Self {
        Self { records: Vec::new(), committed: 0, inbox: HashSet::new() }
    }

    /// A new event.
    pub fn push(&mut self, message: M) {
        let id = self.records.len() as u64;
        self.records.push((id, message));
    }

    /// The next record, unless there is none. Outside of it is `None` where the inbox knows the record.
    pub fn take(&mut self) -> Option<Option<M>> {
        let (id, message) = self.records.get(self.committed)?.clone();
        self.committed += 1;
        Some(self.inbox.insert(id).then_some(message))
    }

    /// The consumer starts over from an older commit.
    pub fn rewind(&mut self, back: usize) {
        self.committed = self.committed.saturating_sub(back);
    }

    /// An old event is published again, as a new one.
    pub fn republish(&mut self, which: usize) -> bool {
        let message = self.records.get(which % self.records.len().max(1)).map(|(_, message)| message.clone());
        message.map(|message| self.push(message)).is_some()
    }

    pub fn is_empty(&self) -> bool {
        self.committed == self.records.len()
    }
}

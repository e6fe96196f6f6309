//! Records that were read and have not taken effect yet.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{Limits, Message, kafka::Ownership};

/// How long a blocked partition waits until it is tried again: doubles from the first to the second.
const BLOCKED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A partition of a topic as Kafka names it.
pub(crate) type Partition = (String, i32);

/// One record, and under which ownership of its partition it was read.
#[derive(Debug)]
pub(crate) struct Read {
    pub partition: Partition,
    pub ownership: u64,
    pub message: Message,
    /// Its time in the topic is recorded.
    pub has_waited: bool,
}

/// A partition that waits.
struct Blocked {
    /// Of the record that it waits for.
    offset: i64,
    since: Instant,
    pause: Duration,
    reason: String,
}

/// In the order of each partition.
#[derive(Default)]
pub(crate) struct Buffer {
    records: VecDeque<Read>,
    blocked: HashMap<Partition, Blocked>,
}

impl Buffer {
    pub fn push(&mut self, read: Read) {
        self.records.push_back(read);
    }

    /// Forgets what was read from partitions that have been lost since; their next owner reads it again. Says whether one
    /// of them waited.
    pub fn drop_lost(&mut self, ownership: &Ownership) -> bool {
        let waiting = self.blocked.len();
        self.records.retain(|read| ownership.current(&read.partition) == Some(read.ownership));
        let records = &self.records;
        self.blocked.retain(|partition, _| records.iter().any(|read| read.partition == *partition));
        self.blocked.len() != waiting
    }

    /// Forgets what was read from a partition.
    pub fn drop_partition(&mut self, partition: &Partition) {
        self.records.retain(|read| read.partition != *partition);
        self.blocked.remove(partition);
    }

    /// Takes the next batch, of the partitions that do not wait; or the record alone that one has waited for long enough.
    pub fn take(&mut self, limits: Limits) -> Vec<Read> {
        let now = Instant::now();
        let due = |read: &Read| self.blocked.get(&read.partition).is_some_and(|blocked| blocked.due() <= now);
        if let Some(at) = self.records.iter().position(due) {
            return self.records.remove(at).into_iter().collect();
        }
        let (mut batch, mut rest, mut bytes) = (Vec::new(), VecDeque::new(), 0);
        for read in self.records.drain(..) {
            let waits = self.blocked.contains_key(&read.partition);
            let full = batch.len() == limits.records || (bytes >= limits.bytes && !batch.is_empty());
            if waits || full {
                rest.push_back(read);
            } else {
                bytes += read.message.size();
                batch.push(read);
            }
        }
        self.records = rest;
        batch
    }

    /// Puts back what was taken and has not taken effect.
    pub fn put_back(&mut self, batch: Vec<Read>) {
        for read in batch.into_iter().rev() {
            self.records.push_front(read);
        }
    }

    /// Has a partition wait, with these records of it, which were taken.
    pub fn block(&mut self, partition: &Partition, offset: i64, records: Vec<Read>, reason: String) {
        self.put_back(records);
        let pause =
            self.blocked.get(partition).map_or(BLOCKED.0, |blocked| (blocked.pause * 2).min(BLOCKED.1));
        self.blocked.insert(partition.clone(), Blocked { offset, since: Instant::now(), pause, reason });
    }

    /// This record has taken effect, and all before it in its partition. Says whether the partition had to wait for it.
    pub fn unblock(&mut self, partition: &Partition, offset: i64) -> bool {
        let over = self.blocked.get(partition).is_some_and(|blocked| blocked.offset <= offset);
        over && self.blocked.remove(partition).is_some()
    }

    /// Whether anything can be taken now.
    pub fn is_ready(&self) -> bool {
        let now = Instant::now();
        self.records
            .iter()
            .any(|read| self.blocked.get(&read.partition).is_none_or(|blocked| blocked.due() <= now))
    }

    /// When the next blocked partition is tried again.
    pub fn due(&self) -> Option<Instant> {
        self.blocked.values().map(Blocked::due).min()
    }

    /// The partitions that wait.
    pub fn blocked(&self) -> impl ExactSizeIterator<Item = &Partition> {
        self.blocked.keys()
    }

    /// Why they do.
    pub fn trouble(&self) -> Option<String> {
        let mut reasons: Vec<&str> = self.blocked.values().map(|blocked| blocked.reason.as_str()).collect();
        reasons.sort_unstable();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

impl Blocked {
    fn due(&self) -> Instant {
        self.since + self.pause
    }
}

//! Dead letters, and the keys that wait for them.

use uuid::Uuid;

use super::{Group, Key, LetterState};

/// A row of `inbox.dead_letter`.
#[derive(Clone, Debug)]
pub(in crate::verify) struct DeadLetter {
    pub(in crate::verify) group: Group,
    pub(in crate::verify) id: Uuid,
    /// The order within a key.
    pub(in crate::verify) seq: i64,
    pub(in crate::verify) topic: String,
    pub(in crate::verify) partition: i32,
    pub(in crate::verify) offset: i64,
    pub(in crate::verify) key_hash: Option<Vec<u8>>,
    /// What its record is about, where its key says so.
    pub(in crate::verify) about: Option<Key>,
    /// `ce_source` and `ce_id`, where the record has them.
    pub(in crate::verify) identity: Option<(String, String)>,
    pub(in crate::verify) state: LetterState,
    /// Whether there is to be a copy of it: it has failed, and its headers are not too large for one.
    pub(in crate::verify) copied: bool,
    /// Its record took effect in its turn; what that asked for outside was given up.
    pub(in crate::verify) undelivered: bool,
    /// Whether it was ever replayed; if in vain, it says how that failed, and no longer why it was parked.
    pub(in crate::verify) replayed: bool,
    /// Whether a replay has it.
    pub(in crate::verify) replaying: bool,
    /// Everything that the audit says was done with it, each once.
    pub(in crate::verify) audited: Vec<String>,
}

/// A row of `inbox.key_hold`.
#[derive(Clone, Debug)]
pub(in crate::verify) struct Hold {
    pub(in crate::verify) group: Group,
    pub(in crate::verify) topic: String,
    pub(in crate::verify) key_hash: Vec<u8>,
    /// The letter that all others of the key wait for.
    pub(in crate::verify) head: Uuid,
}

impl DeadLetter {
    /// The consumer's key that it is of, where it has one.
    pub(in crate::verify) fn key(&self) -> Option<(Group, &str, &[u8])> {
        Some((self.group, &self.topic, self.key_hash.as_deref()?))
    }
}

impl Hold {
    /// The consumer's key that waits.
    pub(in crate::verify) fn key(&self) -> (Group, &str, &[u8]) {
        (self.group, &self.topic, &self.key_hash)
    }
}

impl std::fmt::Display for DeadLetter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { group, id, topic, partition, offset, .. } = self;
        write!(f, "letter {id} ({topic}/{partition}/{offset} in group {group})")
    }
}

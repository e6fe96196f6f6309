//! What records have led to, between their handling and the commit.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use uuid::Uuid;

use crate::Message;

/// Far more records than are on their way to a commit at a time.
const MOST: usize = 10_000;

/// What is to be counted once it is committed, by record: a [handler](crate::Handler) notes it where it works, and takes it
/// back out where it is told of the commit. A record that is run again is noted anew.
#[derive(Debug)]
pub struct Noted<T>(Mutex<HashMap<Uuid, T>>);

impl<T> Noted<T> {
    /// Notes what a record leads to, instead of what it was to lead to before.
    pub fn note(&self, message: &Message, what: T) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What was rolled back and never run again, because its partition is another's by now.
        if noted.len() >= MOST {
            noted.clear();
        }
        noted.insert(message.id, what);
    }

    /// What these records have led to; each is forgotten.
    pub fn take(&self, messages: &[&Message]) -> Vec<T> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        messages.iter().filter_map(|message| noted.remove(&message.id)).collect()
    }
}

impl<T> Default for Noted<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

//! What a page in the producer still waits for, and which keys were overtaken meanwhile.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use crate::{producer::Refusal, trace::Sending};

/// What was refused: the event's `ce_id` where it has one, and why.
pub type Refused = (Option<String>, Refusal);
/// A topic, with prefix, and a key in it.
pub type TopicKey = (String, Vec<u8>);

/// What all pages of an outbox share.
#[derive(Debug, Default)]
pub struct Answers {
    /// Notified of the last answer for a page, and of its first refusal.
    pub changed: Notify,
    /// Whether `keys` holds a refused one.
    tainted: AtomicBool,
    keys: Mutex<Keys>,
}

#[derive(Debug, Default)]
struct Keys {
    refused: BTreeSet<TopicKey>,
    overtaken: BTreeSet<TopicKey>,
}

impl Answers {
    /// The keys of which a later event was acknowledged, or given up on its way, after an earlier one had been refused.
    /// Answers come in the order of each partition, so what is answered after a refusal was sent after it. Forgets those
    /// of `topic`, or all: nothing of it may be on its way.
    pub fn take_overtaken(&self, topic: Option<&str>) -> BTreeSet<TopicKey> {
        let mut keys = lock(&self.keys);
        let is_of = |key: &TopicKey| topic.is_none_or(|topic| key.0 == topic);
        keys.refused.retain(|key| !is_of(key));
        self.tainted.store(!keys.refused.is_empty(), Ordering::Release);
        let (taken, kept) = std::mem::take(&mut keys.overtaken).into_iter().partition(is_of);
        keys.overtaken = kept;
        taken
    }

    fn arrived(&self, topic: &str, key: &[u8]) {
        let key = (topic.to_owned(), key.to_vec());
        let mut keys = lock(&self.keys);
        if keys.refused.contains(&key) {
            keys.overtaken.insert(key);
        }
    }
}

/// The unanswered records of one page. Every record that is queued holds it, and one whose event is sampled its own part
/// of it.
#[derive(Debug)]
pub struct Pending {
    page: Arc<Page>,
    sending: Option<Sending>,
}

#[derive(Debug)]
struct Page {
    unanswered: AtomicUsize,
    refused: Mutex<Option<Refused>>,
    answers: Arc<Answers>,
    alone: bool,
}

impl Pending {
    /// Of a page; nothing is queued yet.
    pub fn new(answers: Arc<Answers>) -> Arc<Self> {
        Self::of(answers, false)
    }

    /// Of one record, behind which nothing is sent before it is answered.
    pub fn alone(answers: Arc<Answers>) -> Arc<Self> {
        Self::of(answers, true)
    }

    fn of(answers: Arc<Answers>, alone: bool) -> Arc<Self> {
        let page = Page { unanswered: AtomicUsize::new(0), refused: Mutex::default(), answers, alone };
        Arc::new(Self { page: Arc::new(page), sending: None })
    }

    /// The same page, of a record whose event is sampled.
    pub fn of_sampled(&self, sending: Sending) -> Arc<Self> {
        Arc::new(Self { page: self.page.clone(), sending: Some(sending) })
    }

    /// Of a record whose event is sampled.
    pub fn sending(&self) -> Option<&Sending> {
        self.sending.as_ref()
    }

    /// One record is about to be queued.
    pub fn add(&self) {
        self.page.unanswered.fetch_add(1, Ordering::AcqRel);
    }

    /// That record was not queued after all.
    pub fn take_back(&self) {
        self.page.unanswered.fetch_sub(1, Ordering::AcqRel);
    }

    /// A record was acknowledged. Called by the producer's thread.
    pub fn acknowledged<'r>(&self, record: impl FnOnce() -> (&'r str, Option<&'r [u8]>)) {
        if self.page.answers.tainted.load(Ordering::Acquire)
            && let (topic, Some(key)) = record()
        {
            self.page.answers.arrived(topic, key);
        }
        if self.page.unanswered.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.page.answers.changed.notify_one();
        }
    }

    /// A record was refused. Called by the producer's thread.
    pub fn refused(&self, refused: Refused, topic: &str, key: Option<&[u8]>) {
        match (&refused.1, key) {
            // It was given up on its way, and may have arrived.
            (Refusal::Purged { sent: true }, Some(key)) => self.page.answers.arrived(topic, key),
            (Refusal::Purged { .. }, _) | (_, None) => {}
            (_, Some(key)) if !self.page.alone => {
                let mut keys = lock(&self.page.answers.keys);
                keys.refused.insert((topic.to_owned(), key.to_vec()));
                self.page.answers.tainted.store(true, Ordering::Release);
            }
            _ => {}
        }
        lock(&self.page.refused).get_or_insert(refused);
        self.page.unanswered.fetch_sub(1, Ordering::AcqRel);
        self.page.answers.changed.notify_one();
    }

    /// How many records wait for an answer.
    pub fn unanswered(&self) -> usize {
        self.page.unanswered.load(Ordering::Acquire)
    }

    /// Whether every record is acknowledged; what was refused, as soon as one was.
    pub fn settled(&self) -> Result<bool, Refused> {
        // The count first: a refusal is stored before it is counted.
        let unanswered = self.unanswered();
        lock(&self.page.refused).take().map_or(Ok(unanswered == 0), Err)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal() -> Refused {
        (None, Refusal::NoTopic("t".to_owned()))
    }

    fn overtaken(answers: &Answers) -> Vec<TopicKey> {
        answers.take_overtaken(None).into_iter().collect()
    }

    #[test]
    fn a_key_is_overtaken_when_it_is_acknowledged_after_a_refusal() {
        let answers = Arc::<Answers>::default();
        let page = Pending::new(answers.clone());
        (0..5).for_each(|_| page.add());
        page.acknowledged(|| ("t", Some(b"early")));
        page.refused(refusal(), "t", Some(b"early"));
        page.refused(refusal(), "t", Some(b"late"));
        page.acknowledged(|| ("t", Some(b"late")));
        page.acknowledged(|| ("other", Some(b"early")));
        assert!(answers.take_overtaken(Some("other")).is_empty());
        assert_eq!(overtaken(&answers), [("t".to_owned(), b"late".to_vec())]);
        page.add();
        page.acknowledged(|| ("t", Some(b"early")));
        assert_eq!(overtaken(&answers), []);
    }

    #[test]
    fn what_was_sent_alone_or_taken_back_is_not_overtaken() {
        let answers = Arc::<Answers>::default();
        let (page, alone) = (Pending::new(answers.clone()), Pending::alone(answers.clone()));
        (0..2).for_each(|_| page.add());
        alone.add();
        alone.refused(refusal(), "t", Some(b"k"));
        page.refused((None, Refusal::Purged { sent: false }), "t", Some(b"k"));
        page.acknowledged(|| ("t", Some(b"k")));
        assert_eq!(overtaken(&answers), []);
    }

    #[test]
    fn what_is_given_up_on_its_way_may_have_overtaken() {
        let answers = Arc::<Answers>::default();
        let page = Pending::new(answers.clone());
        (0..3).for_each(|_| page.add());
        page.refused(refusal(), "t", Some(b"a"));
        page.refused((None, Refusal::Purged { sent: false }), "t", Some(b"a"));
        assert_eq!(overtaken(&answers), []);
        page.refused(refusal(), "t", Some(b"a"));
        page.add();
        page.refused((None, Refusal::Purged { sent: true }), "t", Some(b"a"));
        assert_eq!(overtaken(&answers), [("t".to_owned(), b"a".to_vec())]);
    }
}

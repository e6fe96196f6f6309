//! Pages that are in the producer, in publishing order. The cursor may pass those at the front that are acknowledged.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use telemetry::TraceId;
use tokio::time::{Instant, timeout};

use crate::{
    cursor::Position,
    pending::{Answers, Pending, Refused},
    producer::Record,
};

/// Pages in flight above which nothing is read.
const PAGES: usize = 64;
/// Rows in flight above which nothing is read.
const ROWS: usize = 8_000;
/// Bytes in flight above which nothing is read.
const BYTES: usize = 8 << 20;
/// How long what is on its way is waited for when it is of no use any more.
const SOON: Duration = Duration::from_secs(1);

/// What is on its way, bounded by [`Flight::has_room`].
#[derive(Debug, Default)]
pub struct Flight {
    pages: VecDeque<Sent>,
    rows: usize,
    bytes: usize,
    answers: Arc<Answers>,
}

/// A page in the producer.
#[derive(Debug)]
pub struct Sent {
    /// What it still waits for.
    pub pending: Arc<Pending>,
    /// The position once it is acknowledged.
    pub after: Position,
    /// Its last row's id.
    pub last_id: i64,
    /// When each row was appended.
    pub created_at: Vec<f64>,
    /// The traces of those that are sampled, by the row's place.
    pub traces: Vec<(usize, TraceId)>,
    /// Rows by topic, with prefix.
    pub topics: HashMap<Arc<str>, u64>,
    /// Of keys, headers and payloads.
    pub bytes: usize,
    /// When it was given to the producer.
    pub sent_at: Instant,
}

impl Sent {
    /// Nothing of a page yet.
    pub fn new(pending: Arc<Pending>, after: Position, rows: usize) -> Self {
        Self {
            pending,
            after,
            last_id: 0,
            created_at: Vec::with_capacity(rows),
            traces: Vec::new(),
            topics: HashMap::new(),
            bytes: 0,
            sent_at: Instant::now(),
        }
    }

    /// A record of it was given to the producer.
    pub fn add(&mut self, record: Record<'_>) {
        self.traces.extend(record.trace().map(|trace| (self.created_at.len(), trace)));
        self.created_at.push(record.row.created_at);
        self.bytes += record.row.size();
        *self.topics.entry(record.topic).or_default() += 1;
    }

    /// When each row was appended, and in which trace, if it is sampled.
    pub fn rows(&self) -> impl Iterator<Item = (f64, Option<TraceId>)> {
        let mut traces = self.traces.iter().peekable();
        self.created_at.iter().enumerate().map(move |(place, created_at)| {
            (*created_at, traces.next_if(|sampled| sampled.0 == place).map(|sampled| sampled.1))
        })
    }
}

impl Flight {
    /// What the records of a new page are to hold.
    pub fn pending(&self) -> Arc<Pending> {
        Pending::new(self.answers.clone())
    }

    /// Adds the page behind all others.
    pub fn push(&mut self, page: Sent) {
        self.rows += page.created_at.len();
        self.bytes += page.bytes;
        self.pages.push_back(page);
    }

    /// Whether another page may be read.
    pub fn has_room(&self) -> bool {
        self.pages.len() < PAGES && self.rows < ROWS && self.bytes < BYTES
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// How many rows are on their way.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// When the oldest row on its way was appended.
    pub fn oldest(&self) -> Option<f64> {
        self.pages.front().and_then(|page| page.created_at.first().copied())
    }

    /// The last id on its way.
    pub fn last_id(&self) -> Option<i64> {
        self.pages.back().map(|page| page.last_id)
    }

    /// The front page, once all of it is acknowledged. What was refused anywhere comes first.
    pub fn land(&mut self) -> Result<Option<Sent>, Refused> {
        let mut front = None;
        for (index, page) in self.pages.iter().enumerate() {
            let settled = page.pending.settled()?;
            if index == 0 {
                front = Some(settled);
            }
        }
        if front != Some(true) {
            return Ok(None);
        }
        let page = self.pages.pop_front();
        if let Some(page) = &page {
            self.rows -= page.created_at.len();
            self.bytes -= page.bytes;
        }
        Ok(page)
    }

    /// What its pages share; notified when [`Flight::land`] has something to say.
    pub fn answers(&self) -> Arc<Answers> {
        self.answers.clone()
    }

    /// How long the front page has been on its way.
    pub fn waits(&self) -> Option<Duration> {
        self.pages.front().map(|page| page.sent_at.elapsed())
    }

    /// Forgets every page, once `purge` has had all of their records answered: nothing of them is sent after what comes
    /// next.
    pub async fn abandon(&mut self, purge: impl Fn(bool)) {
        let unanswered = || self.pages.iter().any(|page| page.pending.unanswered() > 0);
        take_back(&self.answers, unanswered, purge).await;
        *self = Self { answers: self.answers.clone(), ..Self::default() };
    }
}

/// Calls `purge` until nothing is unanswered. What is on its way is given up only when it is not answered soon, because
/// nobody knows then whether it has arrived.
pub async fn take_back(answers: &Answers, unanswered: impl Fn() -> bool, purge: impl Fn(bool)) {
    let began = Instant::now();
    while unanswered() {
        purge(began.elapsed() > SOON);
        let _ = timeout(Duration::from_millis(100), answers.changed.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::Refusal;

    fn send(flight: &mut Flight, last_id: i64, records: usize) -> Arc<Pending> {
        let pending = flight.pending();
        (0..records).for_each(|_| pending.add());
        flight.push(Sent {
            pending: pending.clone(),
            after: Position::new("1:1:".into(), None, 0).expect("a snapshot"),
            last_id,
            created_at: vec![0.0; records],
            traces: Vec::new(),
            topics: HashMap::new(),
            bytes: 100,
            sent_at: Instant::now(),
        });
        pending
    }

    fn acknowledge(pending: &Pending) {
        pending.acknowledged(|| ("t", None));
    }

    #[test]
    fn the_cursor_passes_the_acknowledged_front_and_no_more() {
        let mut flight = Flight::default();
        let (first, second) = (send(&mut flight, 7, 2), send(&mut flight, 9, 1));
        acknowledge(&second);
        acknowledge(&first);
        assert!(flight.land().expect("no refusal").is_none(), "one record of the first page is out");
        acknowledge(&first);
        let landed = |flight: &mut Flight| flight.land().expect("no refusal").map(|page| page.last_id);
        assert_eq!((landed(&mut flight), landed(&mut flight), landed(&mut flight)), (Some(7), Some(9), None));
        assert_eq!((flight.rows, flight.bytes), (0, 0));
    }

    #[test]
    fn a_refusal_is_heard_whatever_is_before_it() {
        let mut flight = Flight::default();
        let (_first, second) = (send(&mut flight, 7, 1), send(&mut flight, 9, 1));
        second.refused((None, Refusal::Purged { sent: false }), "t", None);
        assert!(flight.land().is_err());
    }

    #[tokio::test]
    async fn what_is_abandoned_was_answered() {
        let mut flight = Flight::default();
        let pending = send(&mut flight, 7, 1);
        flight.abandon(|_| pending.refused((None, Refusal::Purged { sent: false }), "t", None)).await;
        assert!(flight.is_empty() && flight.has_room());
    }
}

//! Pages that are in the producer, in publishing order. The cursor may pass those at the front that are acknowledged.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::{
    cursor::Position,
    pending::{Pending, Refused},
};

/// Pages in flight above which nothing is read.
const PAGES: usize = 64;
/// Rows in flight above which nothing is read.
const ROWS: usize = 8_000;
/// Bytes in flight above which nothing is read.
const BYTES: usize = 8 << 20;

/// What is on its way, bounded by [`Flight::has_room`].
#[derive(Debug, Default)]
pub struct Flight {
    pages: VecDeque<Sent>,
    rows: usize,
    bytes: usize,
    changed: Arc<Notify>,
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
    /// Rows by topic, with prefix.
    pub topics: HashMap<Arc<str>, u64>,
    /// Of keys, headers and payloads.
    pub bytes: usize,
    /// When it was given to the producer.
    pub sent_at: Instant,
}

impl Flight {
    /// What the records of a new page are to hold.
    pub fn pending(&self) -> Arc<Pending> {
        Arc::new(Pending::new(self.changed.clone()))
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

    /// Notified when [`Flight::land`] has something to say.
    pub fn changes(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// How long the front page has been on its way.
    pub fn waits(&self) -> Option<Duration> {
        self.pages.front().map(|page| page.sent_at.elapsed())
    }

    /// Forgets every page, once `purge` has had all of their records answered: nothing of them is sent after what comes
    /// next.
    pub async fn abandon(&mut self, purge: impl Fn()) {
        while self.pages.iter().any(|page| page.pending.unanswered() > 0) {
            purge();
            let _ = timeout(Duration::from_millis(100), self.changed.notified()).await;
        }
        *self = Self { changed: self.changed.clone(), ..Self::default() };
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
            topics: HashMap::new(),
            bytes: 100,
            sent_at: Instant::now(),
        });
        pending
    }

    #[test]
    fn the_cursor_passes_the_acknowledged_front_and_no_more() {
        let mut flight = Flight::default();
        let (first, second) = (send(&mut flight, 7, 2), send(&mut flight, 9, 1));
        second.answered(None);
        first.answered(None);
        assert!(flight.land().expect("no refusal").is_none(), "one record of the first page is out");
        first.answered(None);
        let landed = |flight: &mut Flight| flight.land().expect("no refusal").map(|page| page.last_id);
        assert_eq!((landed(&mut flight), landed(&mut flight), landed(&mut flight)), (Some(7), Some(9), None));
        assert_eq!((flight.rows, flight.bytes), (0, 0));
    }

    #[test]
    fn a_refusal_is_heard_whatever_is_before_it() {
        let mut flight = Flight::default();
        let (_first, second) = (send(&mut flight, 7, 1), send(&mut flight, 9, 1));
        second.answered(Some((None, Refusal::Purged)));
        assert!(flight.land().is_err());
    }

    #[tokio::test]
    async fn what_is_abandoned_was_answered() {
        let mut flight = Flight::default();
        let pending = send(&mut flight, 7, 1);
        flight.abandon(|| pending.answered(Some((None, Refusal::Purged)))).await;
        assert!(flight.is_empty() && flight.has_room());
    }
}

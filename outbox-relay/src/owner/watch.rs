//! The lease is kept, the ring looked after, and from time to time it is said how things are, whatever else goes on.

use std::{future::Future, pin::pin, time::Duration};

use sqlx::Row as _;
use tokio::time::{Instant, timeout};

use super::Owner;
use crate::{
    flight::Sent,
    metrics::{TopicMetrics, age},
    ring,
    state::Phase,
    stop::{Stop, bounded, diagnostic},
};

/// How often metrics and words are renewed.
pub(super) const WATCH: Duration = Duration::from_millis(500);
/// How often the broker is asked again how many partitions a topic has.
const DOUBT: Duration = Duration::from_secs(60);
/// How long an acknowledgement may take before it is worth a word.
const UNANSWERED: Duration = Duration::from_secs(2);
/// The count of unpublished rows is a query: not more often than this.
const COUNT: Duration = Duration::from_secs(5);
const COUNT_UP_TO: i64 = 100_000;

impl Owner<'_> {
    /// Watches while something else takes its time.
    pub(super) async fn while_watching<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Stop> {
        let mut future = pin!(future);
        loop {
            if let Ok(done) = timeout(WATCH, &mut future).await {
                return Ok(done);
            }
            self.watch().await?;
        }
    }

    /// Keeps the lease, and says from time to time how things are.
    pub(super) async fn watch(&mut self) -> Result<(), Stop> {
        self.outbox.heartbeat.beat();
        bounded(self.lease.keep(&mut self.connection)).await??;
        if Instant::now() >= self.ring_due {
            let ring = bounded(ring::maintain(&self.lease, &mut self.connection)).await??;
            self.outbox.metrics.ring_used.set(ring.used as f64);
            self.outbox.metrics.ring_overdue.set(ring.overdue as f64);
            self.ring_due = Instant::now() + self.outbox.ring_interval;
        }
        if self.watched.elapsed() < WATCH {
            return Ok(());
        }
        self.watched = Instant::now();
        if self.doubted.elapsed() > DOUBT {
            self.doubted = Instant::now();
            self.outbox.producer.doubt_topics();
        }
        let oldest = self.oldest();
        self.outbox.metrics.waits_since(oldest);
        let transaction = bounded(self.transactions.oldest(&mut self.connection)).await?;
        match diagnostic(transaction, "how old the oldest transaction is")? {
            Some(Some(seconds)) => self.outbox.metrics.oldest_transaction.set(seconds),
            Some(None) => {}
            None => self.outbox.metrics.oldest_transaction.set(f64::NAN),
        }
        if self.flight.waits().is_some_and(|waits| waits > UNANSWERED) {
            let trouble = self.outbox.producer.trouble();
            self.outbox.state.set(Phase::Waiting, format!("Kafka does not acknowledge: {trouble}"));
            if let Some(reason) = self.outbox.producer.fatal() {
                return Err(Stop::Producer(reason));
            }
        }
        self.outbox.metrics.held.set_count(self.holds.len());
        self.outbox.metrics.lanes.set_count(self.lanes.len());
        if oldest.is_some() {
            self.count().await?;
        }
        Ok(())
    }

    /// When the oldest row was appended that is known to be unpublished.
    pub(super) fn oldest(&self) -> Option<f64> {
        self.oldest_ahead().into_iter().chain(self.left.values().copied()).min_by(f64::total_cmp)
    }

    /// Of those that the main cursor does not cover yet.
    fn oldest_ahead(&self) -> Option<f64> {
        self.flight.oldest().or(self.waits_since)
    }

    /// Shows how many rows are not published: these, and of each lane the first. The others in it nobody has counted.
    pub(super) fn show_unpublished(&self, ahead: usize) {
        self.outbox.metrics.unpublished.set_count(ahead + self.left.len());
    }

    /// Counts what is not published, unless that was done a moment ago, and finds out since when it waits where that is
    /// not known.
    pub(super) async fn count(&mut self) -> Result<(), Stop> {
        if self.counted.is_some_and(|counted| counted.elapsed() <= COUNT) {
            return Ok(());
        }
        self.counted = Some(Instant::now());
        let count = sqlx::query(include_str!("../sql/unpublished.sql")).bind(COUNT_UP_TO);
        let row = bounded(count.fetch_one(&mut self.connection)).await??;
        let rows: i64 = row.try_get("rows")?;
        self.show_unpublished(usize::try_from(rows).unwrap_or_default());
        if rows > 0 && self.oldest_ahead().is_none() {
            self.waits_since = row.try_get("since")?;
        }
        Ok(())
    }

    /// What does not flow, by name.
    pub(super) fn words(&self) -> String {
        let mut words = "publishing".to_owned();
        for (topic, lane) in &self.lanes {
            words.push_str(&format!("; {topic} waits: {}", lane.reason));
        }
        if self.holds.len() > 0 {
            words.push_str(&format!("; keys held: {}", self.holds.len()));
        }
        words
    }

    pub(super) fn observe_published(&mut self, page: &Sent) {
        for (created_at, trace) in page.rows() {
            self.outbox.metrics.seconds.observe_in(age(created_at), trace);
        }
        for (topic, rows) in &page.topics {
            let logical = self.outbox.producer.logical(topic);
            self.topic_metrics(logical).published.inc_by(*rows);
        }
    }

    /// The metrics of a topic, named without prefix.
    pub(super) fn topic_metrics(&mut self, logical: &str) -> &TopicMetrics {
        if !self.topics.contains_key(logical) {
            self.topics.insert(logical.to_owned(), self.outbox.metrics.topic(logical));
        }
        &self.topics[logical]
    }
}

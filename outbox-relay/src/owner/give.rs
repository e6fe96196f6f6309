//! From rows to the producer, past those that must not go now.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::Owner;
use crate::{
    flight::{Sent, take_back},
    lease,
    pending::Pending,
    producer::{Blame, Record, Refusal, Topic},
    reader::{Page, Row},
    stop::{Stop, bounded},
    trace,
};

/// What has become of a page.
pub(super) struct Given {
    /// What is on its way, with the position after `rows`.
    pub sent: Sent,
    /// Rows that were sent, parked or left to their lane.
    pub rows: usize,
    /// Why the rest was not.
    pub stopped: Result<(), Stop>,
}

/// A row that is parked: with the reason, or because it waits behind one.
pub(super) type Parking<'r> = (&'r Row, Option<Refusal>);

impl Owner<'_> {
    /// Gives the rows of a page to the producer, up to the first that has to wait for its topic. Rows of a held key, and
    /// rows that will never be taken, are parked, durably. `lane` is the topic whose lane it is.
    pub(super) async fn give(&mut self, page: &Page, lane: Option<&str>) -> Result<Given, Stop> {
        let mut sent = Sent::new(self.flight.pending(), page.after(page.rows.len()), page.rows.len());
        let (mut topics, mut parked, mut rows, mut stopped) = (HashMap::new(), Vec::new(), 0, Ok(()));
        for row in &page.rows {
            match self.give_row(row, lane, &mut topics, &mut sent).await {
                Ok(None) => {}
                Ok(Some(parking)) => parked.push((row, parking)),
                // What was given before it is on its way, or to be parked: it must not be forgotten.
                Err(stop) if stop.is_about_a_row() => {
                    stopped = Err(stop);
                    break;
                }
                Err(stop) => return Err(stop),
            }
            rows += 1;
        }
        // Before the cursor may pass them.
        self.park(&parked).await?;
        if rows > 0 {
            sent.after = page.after(rows);
            sent.last_id = page.rows[rows - 1].id;
        }
        Ok(Given { sent, rows, stopped })
    }

    /// `Some` for a row that is to be parked: why it was refused, or `None` when it only waits. `topics` are those of the
    /// page so far.
    async fn give_row<'p>(
        &mut self,
        row: &'p Row,
        lane: Option<&str>,
        topics: &mut HashMap<&'p str, Topic>,
        sent: &mut Sent,
    ) -> Result<Option<Option<Refusal>>, Stop> {
        if lane.is_none() && self.lanes.contains_key(&row.topic) {
            if !self.left.contains_key(&row.topic) {
                self.left.insert(row.topic.clone(), row.created_at);
            }
            return Ok(None);
        }
        if self.is_held(row) {
            return Ok(Some(None));
        }
        let topic = match topics.get(row.topic.as_str()) {
            Some(topic) => topic.clone(),
            None => {
                let topic = self.topic(&row.topic).await?.map_err(|refusal| Stop::blocked(row, refusal))?;
                // Two clients of the producer keep no order between them.
                if *self.limits.entry(row.topic.clone()).or_insert(topic.limit) != topic.limit {
                    let topic = topic.name.to_string();
                    return Err(Stop::blocked(row, Refusal::LimitChanged(topic)));
                }
                topics.insert(&row.topic, topic.clone());
                topic
            }
        };
        let alone = row.id <= self.careful_until;
        let given = match Record::new(row, topic) {
            Err(refusal) => {
                trace::refused(row, &refusal);
                Err(refusal)
            }
            Ok(record) if alone => self.send_alone(&record).await?.map(|()| record),
            Ok(record) => self.send(&record, &sent.pending).await?.map(|()| record),
        };
        match given {
            Ok(record) => {
                sent.add(record);
                Ok(None)
            }
            Err(refusal) if refusal.blame() == Blame::Record => {
                self.hold(row);
                Ok(Some(Some(refusal)))
            }
            Err(refusal) => Err(Stop::blocked(row, refusal)),
        }
    }

    /// Sends a record behind which nothing goes before it is answered, and waits for that.
    pub(super) async fn send_alone(&mut self, record: &Record<'_>) -> Result<Result<(), Refusal>, Stop> {
        let pending = Pending::alone(self.flight.answers());
        match self.send(record, &pending).await? {
            Ok(()) => self.answer(&pending).await,
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// Waits for room in the producer's queue. The client may refuse the record at once.
    async fn send(
        &mut self,
        record: &Record<'_>,
        pending: &Arc<Pending>,
    ) -> Result<Result<(), Refusal>, Stop> {
        let producer = self.outbox.producer.clone();
        loop {
            match producer.send(record, pending) {
                Ok(true) => return Ok(Ok(())),
                Ok(false) => self.while_watching(sleep(Duration::from_millis(5))).await?,
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
    }

    /// Waits for the answer to what was sent alone, however long Kafka is away; a shutdown takes it back.
    pub(super) async fn answer(&mut self, pending: &Pending) -> Result<Result<(), Refusal>, Stop> {
        let answers = self.flight.answers();
        loop {
            match pending.settled() {
                Ok(true) => return Ok(Ok(())),
                Err((_, refusal)) => return Ok(Err(refusal)),
                Ok(false) => {}
            }
            if self.outbox.shutdown.is_cancelled() {
                let purge = |sent| self.outbox.producer.purge(sent);
                take_back(&answers, || pending.unanswered() > 0, purge).await;
                return Ok(Err(Refusal::Purged { sent: true }));
            }
            let _ = timeout(Duration::from_millis(20), answers.changed.notified()).await;
            self.watch().await?;
        }
    }

    /// A topic at the broker, which is asked where that was not done before. Its partitions must be as many as when it
    /// was first published to.
    pub(super) async fn topic(&mut self, logical: &str) -> Result<Result<Topic, Refusal>, Stop> {
        let topic = match self.outbox.producer.known(logical) {
            Some(topic) => topic,
            None => {
                let producer = self.outbox.producer.clone();
                match self.while_watching(producer.ask(logical)).await? {
                    Ok(topic) => topic,
                    Err(refusal) => return Ok(Err(refusal)),
                }
            }
        };
        if !self.is_same_kafka().await? {
            return Ok(Err(Refusal::Away(self.outbox.producer.trouble())));
        }
        let now = topic.partitions;
        if self.partitions.get(logical) != Some(&now) {
            let first = sqlx::query_scalar(include_str!("../sql/partitions.sql")).bind(logical).bind(now);
            let before: i32 = bounded(first.fetch_one(&mut self.connection)).await??;
            if before != now {
                let topic = topic.name.to_string();
                return Ok(Err(Refusal::PartitionsChanged { topic, before, now }));
            }
            self.partitions.insert(logical.to_owned(), now);
        }
        Ok(Ok(topic))
    }

    /// Whether this is certainly the Kafka that has what was published before; the first one is noted.
    pub(super) async fn is_same_kafka(&mut self) -> Result<bool, Stop> {
        let producer = self.outbox.producer.clone();
        let Some(found) = self.while_watching(producer.cluster()).await? else { return Ok(false) };
        if self.kafka.as_ref() == Some(&found) {
            return Ok(true);
        }
        let stored = sqlx::query_scalar(include_str!("../sql/kafka_cluster.sql"))
            .bind(&found)
            .bind(self.lease.epoch)
            .bind(self.lease.owner);
        let stored: Option<String> = bounded(stored.fetch_optional(&mut self.connection)).await??;
        let stored = stored.ok_or(Stop::Lease(lease::Error::Fenced))?;
        if stored != found {
            return Err(Stop::OtherKafka { stored, found });
        }
        self.kafka = Some(found);
        Ok(true)
    }
}

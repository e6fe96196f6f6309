//! What Kafka refuses alone: parked with its key held, copied to the dead-letter topic, and let go on by an operator.

use std::collections::HashSet;

use outbox::Headers;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::{Owner, give::Parking};
use crate::{
    lease::{self, Lease},
    metrics::age,
    producer::{Blame, Record, Refusal},
    reader::{self, Row},
    stop::{Stop, bounded},
    trace,
};

/// Parked events of one key that are published in one turn.
const TURN: i64 = 100;

/// The held keys of an outbox, by topic. A copy of `outbox.hold`, which only this relay and an operator change.
#[derive(Debug, Default)]
pub(super) struct Holds(HashSet<(String, Vec<u8>)>);

impl Holds {
    pub async fn load(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let rows = sqlx::query(include_str!("../sql/held.sql")).fetch_all(connection).await?;
        rows.iter()
            .map(|row| Ok((row.try_get("topic")?, row.try_get("key")?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Owner<'_> {
    pub(super) fn is_held(&self, row: &Row) -> bool {
        match &row.key {
            Some(key) if !self.holds.0.is_empty() => self.holds.0.contains(&(row.topic.clone(), key.clone())),
            _ => false,
        }
    }

    pub(super) fn hold(&mut self, row: &Row) {
        if let Some(key) = &row.key {
            self.holds.0.insert((row.topic.clone(), key.clone()));
        }
    }

    /// Parks rows and holds the keys of the refused ones, in one transaction under the lease; then copies the refused
    /// ones to their dead-letter topics.
    pub(super) async fn park(&mut self, parked: &[Parking<'_>]) -> Result<(), Stop> {
        if parked.is_empty() {
            return Ok(());
        }
        bounded(park(&self.lease, &mut self.connection, parked)).await??;
        for (row, refusal) in parked {
            let Some(refusal) = refusal else { continue };
            self.topic_metrics(&row.topic).refused.inc();
            tracing::error!(
                outbox = self.outbox.source.name,
                topic = row.topic,
                id = row.id,
                reason = %refusal,
                "an event was refused; it is parked and its key held, see `outbox-relay status` and `release`"
            );
            self.dead_letter(row, refusal).await?;
        }
        Ok(())
    }

    /// Puts on record which keys of a topic, with prefix, or of all were overtaken. Nothing of it may be on its way.
    pub(super) async fn note_overtaken(&mut self, topic: Option<&str>) -> Result<(), Stop> {
        let overtaken = self.flight.answers().take_overtaken(topic);
        if overtaken.is_empty() {
            return Ok(());
        }
        let (mut topics, mut keys) = (Vec::new(), Vec::new());
        for (topic, key) in &overtaken {
            let topic = self.outbox.producer.logical(topic);
            tracing::error!(
                outbox = self.outbox.source.name,
                topic,
                key = %key.escape_ascii(),
                "Kafka took a later event of this key before an earlier one"
            );
            topics.push(topic);
            keys.push(key.as_slice());
        }
        self.outbox.metrics.overtaken.inc_by(overtaken.len() as u64);
        let noted = sqlx::query(include_str!("../sql/overtaken.sql")).bind(&topics).bind(&keys);
        bounded(noted.execute(&mut self.connection)).await??;
        Ok(())
    }

    /// Copies a parked row to `<topic>.outbox.dlq`. Where that is refused too, PostgreSQL has the only copy.
    async fn dead_letter(&mut self, row: &Row, refusal: &Refusal) -> Result<(), Stop> {
        let logical = format!("{}.outbox.dlq", row.topic);
        let Ok(topic) = self.topic(&logical).await? else { return Ok(()) };
        let Ok(headers) = Headers::decode(&row.headers) else { return Ok(()) };
        let mut list: Vec<_> =
            headers.iter().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect();
        for (name, value) in [
            ("__dlq.errors.topic", row.topic.clone()),
            ("__dlq.errors.message", refusal.to_string()),
            ("dlq-outbox", self.outbox.source.name.clone()),
            ("dlq-outbox-id", row.id.to_string()),
        ] {
            list.push((name.to_owned(), Some(value.into_bytes())));
        }
        let headers: Headers = list.into_iter().collect();
        // It keeps its partition: both topics have the same count, and where they have not, the key decides.
        let copy = Row { topic: logical, headers: headers.encode(), partition: None, ..row.clone() };
        let Ok(record) = Record::new(&copy, topic) else { return Ok(()) };
        match self.send_alone(&record.of_copy()).await? {
            // What another Kafka has acknowledged counts for nothing.
            Ok(()) if !self.is_same_kafka().await? => {}
            Ok(()) => {
                let done = sqlx::query(include_str!("../sql/dead_lettered.sql")).bind(row.id);
                bounded(done.execute(&mut self.connection)).await??;
            }
            Err(refusal) => tracing::warn!(id = row.id, %refusal, "the dead-letter topic refused it too"),
        }
        Ok(())
    }

    /// Publishes what waits behind the keys that an operator has released, in order, and lifts their holds.
    pub(super) async fn let_go(&mut self) -> Result<(), Stop> {
        if self.holds.0.is_empty() {
            return Ok(());
        }
        let held = sqlx::query(include_str!("../sql/held.sql"));
        let held = bounded(held.fetch_all(&mut self.connection)).await??;
        for hold in held {
            let (topic, key): (String, Vec<u8>) = (hold.try_get("topic")?, hold.try_get("key")?);
            if hold.try_get("released")? && !self.lanes.contains_key(&topic) {
                // The cursor passes what was parked first, or it would be read again once the hold is gone.
                self.settle().await?;
                self.release(topic, key).await?;
            }
        }
        Ok(())
    }

    async fn release(&mut self, topic: String, key: Vec<u8>) -> Result<(), Stop> {
        let waiting = sqlx::query(include_str!("../sql/waiting.sql")).bind(&topic).bind(&key).bind(TURN);
        let waiting = bounded(waiting.fetch_all(&mut self.connection)).await??;
        let rows = waiting.iter().map(reader::row).collect::<Result<Vec<_>, _>>()?;
        let mut published = Vec::with_capacity(rows.len());
        for row in &rows {
            let Ok(at) = self.topic(&topic).await? else { break };
            let answer = match Record::new(row, at) {
                Err(refusal) => {
                    trace::refused(row, &refusal);
                    Err(refusal)
                }
                Ok(record) => self.send_alone(&record).await?.map(|()| record.trace()),
            };
            match answer {
                Ok(trace) => {
                    self.outbox.metrics.seconds.observe_in(age(row.created_at), trace);
                    self.topic_metrics(&topic).published.inc();
                    published.push(row.id);
                }
                Err(refusal) => {
                    if refusal.blame() == Blame::Record {
                        self.topic_metrics(&topic).refused.inc();
                        // It is parked already; this renews the hold and its reason.
                        bounded(park(&self.lease, &mut self.connection, &[(row, Some(refusal))])).await??;
                    }
                    break;
                }
            }
        }
        // What another Kafka has acknowledged counts for nothing.
        if !self.is_same_kafka().await? {
            return Ok(());
        }
        let lifted = lift(&self.lease, &mut self.connection, &topic, &key, &published);
        if bounded(lifted).await?? {
            tracing::info!(outbox = self.outbox.source.name, topic, "a held key goes on");
            self.holds.0.remove(&(topic, key));
        }
        Ok(())
    }
}

async fn park(lease: &Lease, connection: &mut PgConnection, parked: &[Parking<'_>]) -> Result<(), Stop> {
    let mut transaction = owned(lease, connection).await?;
    let reasons: Vec<Option<String>> =
        parked.iter().map(|(_, refusal)| refusal.as_ref().map(ToString::to_string)).collect();
    let topics: Vec<&str> = parked.iter().map(|(row, _)| row.topic.as_str()).collect();
    let keys: Vec<Option<&[u8]>> = parked.iter().map(|(row, _)| row.key.as_deref()).collect();
    sqlx::query(include_str!("../sql/park.sql"))
        .bind(parked.iter().map(|(row, _)| row.id).collect::<Vec<_>>())
        .bind(&topics)
        .bind(parked.iter().map(|(row, _)| row.partition).collect::<Vec<_>>())
        .bind(&keys)
        .bind(parked.iter().map(|(row, _)| row.headers.as_slice()).collect::<Vec<_>>())
        .bind(parked.iter().map(|(row, _)| row.payload.as_deref()).collect::<Vec<_>>())
        .bind(parked.iter().map(|(row, _)| row.created_at).collect::<Vec<_>>())
        .bind(&reasons)
        .execute(&mut *transaction)
        .await?;
    sqlx::query(include_str!("../sql/hold.sql"))
        .bind(&topics)
        .bind(&keys)
        .bind(&reasons)
        .execute(&mut *transaction)
        .await?;
    Ok(transaction.commit().await?)
}

/// Deletes what was published; whether the hold is gone with it.
async fn lift(
    lease: &Lease,
    connection: &mut PgConnection,
    topic: &str,
    key: &[u8],
    published: &[i64],
) -> Result<bool, Stop> {
    let mut transaction = owned(lease, connection).await?;
    sqlx::query(include_str!("../sql/unpark.sql")).bind(published).execute(&mut *transaction).await?;
    let lifted =
        sqlx::query(include_str!("../sql/lift.sql")).bind(topic).bind(key).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(lifted.rows_affected() > 0)
}

/// A durable transaction of the one who has the lease.
pub(super) async fn owned<'c>(
    lease: &Lease,
    connection: &'c mut PgConnection,
) -> Result<sqlx::Transaction<'c, sqlx::Postgres>, Stop> {
    let mut transaction = connection.begin().await?;
    sqlx::query("set local synchronous_commit = on").execute(&mut *transaction).await?;
    let mine = sqlx::query(include_str!("../sql/owns.sql"))
        .bind(lease.epoch)
        .bind(lease.owner)
        .fetch_optional(&mut *transaction)
        .await?;
    match mine {
        Some(_) => Ok(transaction),
        None => Err(Stop::Lease(lease::Error::Fenced)),
    }
}

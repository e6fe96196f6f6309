//! One business transaction, which ends with its events.

use std::ops::{Deref, DerefMut};

use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use crate::{Error, Event, MAX_EVENT_BYTES};

/// A transaction that can only be committed together with its events; dropping it rolls it back.
///
/// All writers of a key must hold the same lock before they read what the event says: a row of the aggregate, or an
/// advisory transaction lock where there is none. Events of one key then get their ids in commit order, because the
/// append comes last.
#[derive(Debug)]
pub struct UnitOfWork {
    transaction: Transaction<'static, Postgres>,
}

impl UnitOfWork {
    /// Begins a transaction (READ COMMITTED).
    pub async fn begin(pool: &PgPool) -> Result<Self, Error> {
        Ok(Self { transaction: pool.begin().await? })
    }

    /// Appends the events in their order, in one statement, and commits.
    ///
    /// When this returns, domain rows and events are durable; on an error of the commit itself the outcome is unknown.
    pub async fn commit(mut self, events: Vec<Event>) -> Result<(), Error> {
        if !events.is_empty() {
            append(&mut self.transaction, events).await?;
        }
        Ok(self.transaction.commit().await?)
    }
}

impl Deref for UnitOfWork {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.transaction
    }
}

impl DerefMut for UnitOfWork {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}

async fn append(connection: &mut PgConnection, events: Vec<Event>) -> Result<(), Error> {
    for event in &events {
        let size = event.size();
        if size > MAX_EVENT_BYTES {
            return Err(Error::TooLarge { topic: event.topic, size, limit: MAX_EVENT_BYTES });
        }
    }
    let count = events.len();
    let mut ids = Vec::with_capacity(count);
    let mut topics = Vec::with_capacity(count);
    let mut partitions = Vec::with_capacity(count);
    let mut keys = Vec::with_capacity(count);
    let mut aggregates = Vec::with_capacity(count);
    let mut sequences = Vec::with_capacity(count);
    let mut headers = Vec::with_capacity(count);
    let mut payloads = Vec::with_capacity(count);
    for event in events {
        ids.push(event.id);
        topics.push(event.topic);
        partitions.push(event.partition);
        keys.push(event.key);
        aggregates.push(event.aggregate_id);
        sequences.push(event.sequence);
        headers.push(event.headers.encode());
        payloads.push(event.payload);
    }
    sqlx::query(include_str!("sql/append.sql"))
        .bind(ids)
        .bind(topics)
        .bind(partitions)
        .bind(keys)
        .bind(aggregates)
        .bind(sequences)
        .bind(headers)
        .bind(payloads)
        .execute(connection)
        .await?;
    Ok(())
}

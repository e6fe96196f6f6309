//! An outbox in a database of its own, in the form that its publisher reads, and the writers that fill it.

use std::{sync::Arc, time::Duration};

use ::outbox::{Event, Headers, Source, UnitOfWork};
use anyhow::{Context as _, ensure};
use proto::order::v1::OrderCreated;
use serde::Serialize;
use sqlx::PgPool;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use super::{
    publisher::Publisher,
    record::{KEYS, Record},
    servers::{ROLES, Servers},
};
use crate::output;

/// Sessions that write, each with keys of its own.
pub(super) const SESSIONS: u32 = 16;
/// The topic's name without prefix.
const TOPIC: &str = "events";
const SOURCE: Source = Source::new("/orderly/bench");
/// How long a backlog may take to be written.
const FILL_WITHIN: Duration = Duration::from_secs(3600);
/// How long a replication slot may stay in use after the end of who used it, and how often it is tried.
const SLOT_WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);

/// An outbox and its topic.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    pub(super) database: String,
    pub(super) topic: String,
    prefix: String,
    relay_url: String,
    cloud_events: bool,
    table: Table,
}

#[derive(Clone, Debug)]
enum Table {
    Orderly(PgPool),
    Debezium(PgPool),
}

/// Bytes on disk of the tables that a publisher needs, indexes included.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Sizes {
    /// Rows that wait or waited.
    pub(super) events: i64,
    /// Where the relay keeps its place; nothing of the kind with Debezium.
    pub(super) cursor: i64,
}

impl Outbox {
    /// An empty outbox for this publisher, and its topic. What it is for makes the names; `cloud_events` is of
    /// [`Args`](super::Args).
    pub(super) async fn create(
        servers: &Servers,
        publisher: Publisher,
        purpose: &str,
        cloud_events: bool,
    ) -> anyhow::Result<Self> {
        let prefix = format!("{}-{purpose}-", publisher.name());
        let (database, topic) = (format!("{prefix}db").replace('-', "_"), format!("{prefix}{TOPIC}"));
        servers.create_database(&database).await?;
        servers.broker()?.create(&topic).await?;
        let table = if publisher.profile().is_some() {
            let owner = servers.pool("postgres", &database, SESSIONS).await?;
            sqlx::raw_sql(include_str!("../../../../bench/debezium/outbox.sql")).execute(&owner).await?;
            // From here on the slot keeps what is written, so the connector may start later.
            let slot = "SELECT pg_create_logical_replication_slot($1, 'pgoutput')";
            sqlx::query(slot).bind(&database).execute(&owner).await?;
            Table::Debezium(owner)
        } else {
            let owner = servers.pool("postgres", &database, 1).await?;
            ::outbox::migrate(&owner, &ROLES).await?;
            owner.close().await;
            Table::Orderly(servers.pool(ROLES.app, &database, SESSIONS).await?)
        };
        let relay_url = servers.url(ROLES.relay, &database);
        Ok(Self { database, topic, prefix, relay_url, cloud_events, table })
    }

    /// What the relay puts in front of topics.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The relay's address of the database. Holds a password.
    pub(super) fn relay_url(&self) -> &str {
        &self.relay_url
    }

    /// Appends records in one transaction; when this returns they are committed.
    pub(super) async fn append(&self, records: &[Record]) -> anyhow::Result<()> {
        match &self.table {
            Table::Orderly(pool) => {
                let work = UnitOfWork::begin(pool).await?;
                let event = |record: &Record| event(*record, self.cloud_events);
                work.commit(records.iter().map(event).collect()).await?;
            }
            Table::Debezium(pool) => {
                let ids: Vec<Uuid> = records.iter().map(|_| Uuid::now_v7()).collect();
                let keys: Vec<String> =
                    records.iter().map(|record| record.aggregate_id().to_string()).collect();
                let payloads: Vec<String> = records.iter().map(|record| record.payload()).collect();
                let mut transaction = pool.begin().await?;
                sqlx::query(include_str!("../../../../bench/debezium/append.sql"))
                    .bind(ids)
                    .bind(&self.topic)
                    .bind(keys)
                    .bind(payloads)
                    .execute(&mut *transaction)
                    .await?;
                transaction.commit().await?;
            }
        }
        Ok(())
    }

    /// Writes a backlog: records 0 to `rows`, by several sessions at once, so that transactions overlap.
    pub(super) async fn fill(&self, rows: u64, transaction_rows: u64) -> anyhow::Result<()> {
        output::note(format!("  writing {rows} rows, {transaction_rows} in a transaction"));
        let outbox = Arc::new(self.clone());
        let mut sessions = JoinSet::new();
        for session in 0..u64::from(SESSIONS) {
            let outbox = Arc::clone(&outbox);
            sessions.spawn(async move {
                let mine: Vec<Record> = records(session, rows).collect();
                for transaction in mine.chunks(usize::try_from(transaction_rows)?) {
                    outbox.append(transaction).await?;
                }
                anyhow::Ok(())
            });
        }
        let written = async {
            while let Some(session) = sessions.join_next().await {
                session??;
            }
            anyhow::Ok(())
        };
        timeout(FILL_WITHIN, written).await.context("the backlog was not written in time")?
    }

    pub(super) async fn sizes(&self, servers: &Servers) -> anyhow::Result<Sizes> {
        let sizes = match self.table {
            Table::Orderly(_) => {
                "SELECT sum(pg_total_relation_size(relid))::bigint, pg_total_relation_size('outbox.cursor')
                 FROM pg_partition_tree('outbox.event')"
            }
            Table::Debezium(_) => "SELECT pg_total_relation_size('outbox'), 0::bigint",
        };
        let mut superuser = servers.superuser(&self.database).await?;
        let (events, cursor) = sqlx::query_as(sizes).fetch_one(&mut superuser).await?;
        Ok(Sizes { events, cursor })
    }

    /// Drops the database; its publisher must have ended.
    pub(super) async fn drop(self, servers: &Servers) -> anyhow::Result<()> {
        if let Table::Debezium(pool) = &self.table {
            let deadline = Instant::now() + SLOT_WITHIN;
            let drop =
                || sqlx::query("SELECT pg_drop_replication_slot($1)").bind(&self.database).execute(pool);
            // The walsender may outlive its client for a moment.
            while let Err(err) = drop().await {
                ensure!(
                    Instant::now() < deadline,
                    anyhow::Error::from(err).context("the slot is still in use")
                );
                sleep(LOOK).await;
            }
        }
        let (Table::Orderly(pool) | Table::Debezium(pool)) = &self.table;
        pool.close().await;
        servers.drop_database(&self.database).await
    }
}

/// The event of a record: with its id as the only header, or with those that every event of the platform has.
pub(super) fn event(record: Record, cloud_events: bool) -> Event {
    let id = record.aggregate_id();
    let sequence = i32::try_from(record.number % 1_000_000).unwrap_or_default();
    let mut event = SOURCE.event(TOPIC, id, sequence, &OrderCreated::default());
    if cloud_events {
        let trace = format!("00-{:032x}-{:016x}-01", event.id.as_u128(), record.number);
        event.headers.push_text("traceparent", trace);
    } else {
        event.headers = Headers::default();
        event.headers.push_text("ce_id", event.id.to_string());
    }
    event.payload = Some(record.payload().into_bytes());
    event
}

/// How many headers an event has.
pub(super) fn headers(cloud_events: bool) -> usize {
    event(Record { number: 0, key: 0 }, cloud_events).headers.iter().len()
}

/// What one of [`SESSIONS`] writes of a backlog: every so-manieth record, with keys that no other session has.
fn records(session: u64, rows: u64) -> impl Iterator<Item = Record> {
    let sessions = u64::from(SESSIONS);
    (session..rows)
        .step_by(SESSIONS as usize)
        .map(move |number| Record { number, key: key(session, number / sessions) })
}

/// A key of this session.
pub(super) fn key(session: u64, turn: u64) -> u64 {
    let sessions = u64::from(SESSIONS);
    session + sessions * (turn % (KEYS / sessions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn sessions_write_every_record_once_and_share_no_key() {
        let mut owners = HashMap::new();
        let mut numbers: Vec<u64> = Vec::new();
        for session in 0..u64::from(SESSIONS) {
            for record in records(session, 100_000) {
                assert_eq!(*owners.entry(record.key).or_insert(session), session);
                assert!(record.key < KEYS);
                numbers.push(record.number);
            }
        }
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(0..100_000));
    }
}

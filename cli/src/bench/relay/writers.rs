//! What the append costs those who write: transactions a second with and without it, nobody publishing meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::outbox::UnitOfWork;
use serde::Serialize;
use sqlx::{PgPool, postgres::PgListener};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Args,
    meter::{Meter, Spent},
    outbox::{event, key},
    record::Record,
    servers::{ROLES, Servers},
    snapshot::Held,
};
use crate::output;

/// What comes before anything is counted.
const WARM_UP: Duration = Duration::from_secs(3);
/// The business transaction: one row.
const BUSINESS: &str = "INSERT INTO bench_order (customer, total) VALUES ($1, $2)";
/// A row of the outbox, and a notification for it where that is wanted.
const INSERT: &str = "
    INSERT INTO outbox.event (event_id, topic, key, aggregate_id, sequence, headers, payload)
    SELECT $1, $2, $3, $4, $5, $6, $7 WHERE NOT $8 OR pg_notify('outbox', '') IS NOT NULL";

/// What a transaction of a writer consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// One row of a business table.
    Business,
    /// The same, and one event by the outbox crate, which notifies after a quiet spell.
    Outbox,
    /// The same, and one event by a plain INSERT that never notifies.
    WithoutNotify,
    /// The same, and a notification in every transaction, as a trigger would add it.
    NotifyAlways,
}

/// What one kind of writer has shown.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Writers {
    pub(super) kind: Kind,
    /// Sessions, each with one transaction at a time.
    pub(super) sessions: u32,
    pub(super) transactions_per_second: f64,
    /// Cores in use meanwhile.
    pub(super) cores: Spent,
    /// How long the snapshot was held, in seconds.
    pub(super) snapshot_held_seconds: Option<f64>,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Business, Self::Outbox, Self::WithoutNotify, Self::NotifyAlways];

    /// As in tables.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Business => "one business row",
            Self::Outbox => "and one event by the outbox crate",
            Self::WithoutNotify => "and one event by a plain INSERT, no NOTIFY",
            Self::NotifyAlways => "and one event by a plain INSERT, NOTIFY in each transaction",
        }
    }
}

/// Measures every kind, each in a database of its own.
pub(super) async fn measure(
    servers: &Servers,
    args: &Args,
    held: Option<Duration>,
) -> anyhow::Result<Vec<Writers>> {
    let seconds = Duration::from_secs(args.seconds).max(held.unwrap_or_default() / Kind::ALL.len() as u32);
    let mut measured = Vec::new();
    for kind in Kind::ALL {
        output::note(format!("writers, {} sessions: {}", args.writers, kind.words()));
        let database = "writers";
        servers.create_database(database).await?;
        let owner = servers.pool("postgres", database, 1).await?;
        ::outbox::migrate(&owner, &ROLES).await?;
        let table = "CREATE TABLE bench_order (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                                               customer text NOT NULL, total bigint NOT NULL);
                     GRANT INSERT ON bench_order TO bench_app";
        sqlx::raw_sql(table).execute(&owner).await?;
        owner.close().await;
        let snapshot = match held {
            Some(_) => Some(Held::open(servers, database).await?),
            None => None,
        };
        // As the relay does, so that a notification has somebody to reach.
        let mut listener = PgListener::connect(&servers.url(ROLES.relay, database)).await?;
        listener.listen("outbox").await?;
        let pool = servers.pool(ROLES.app, database, args.writers).await?;
        let meter = Meter::new(servers, None)?;
        let (transactions, cores) = write(kind, &pool, args.writers, seconds, meter).await?;
        let snapshot_held_seconds = match snapshot {
            Some(snapshot) => Some(snapshot.release().await?),
            None => None,
        };
        drop(listener);
        pool.close().await;
        servers.drop_database(database).await?;
        let transactions_per_second = transactions as f64 / cores.seconds;
        let sessions = args.writers;
        measured.push(Writers { kind, sessions, transactions_per_second, cores, snapshot_held_seconds });
    }
    Ok(measured)
}

/// Lets the sessions write, and counts the transactions of `seconds`.
async fn write(
    kind: Kind,
    pool: &PgPool,
    sessions: u32,
    seconds: Duration,
    meter: Meter,
) -> anyhow::Result<(u64, Spent)> {
    let (stop, done) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
    let mut writers = JoinSet::new();
    for session in 0..u64::from(sessions) {
        let (pool, stop, done) = (pool.clone(), stop.clone(), Arc::clone(&done));
        writers.spawn(async move {
            let mut number = session;
            while !stop.is_cancelled() {
                transaction(kind, &pool, Record { number, key: key(session, number) }).await?;
                done.fetch_add(1, Ordering::Relaxed);
                number += u64::from(sessions);
            }
            anyhow::Ok(())
        });
    }
    sleep(WARM_UP).await;
    let (before, from) = (done.load(Ordering::Relaxed), meter.read());
    sleep(seconds).await;
    let (after, to) = (done.load(Ordering::Relaxed), meter.read());
    stop.cancel();
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    Ok((after - before, from.until(to).cores()))
}

async fn transaction(kind: Kind, pool: &PgPool, record: Record) -> anyhow::Result<()> {
    let mut work = UnitOfWork::begin(pool).await?;
    let total = i64::try_from(record.number % 100_000)?;
    sqlx::query(BUSINESS).bind(format!("customer-{}", record.key)).bind(total).execute(&mut *work).await?;
    let mut events = Vec::new();
    match kind {
        Kind::Business => {}
        Kind::Outbox => events.push(event(record, true)),
        Kind::WithoutNotify | Kind::NotifyAlways => {
            let event = event(record, true);
            sqlx::query(INSERT)
                .bind(event.id)
                .bind(event.topic)
                .bind(event.key)
                .bind(event.aggregate_id)
                .bind(event.sequence)
                .bind(event.headers.encode())
                .bind(event.payload)
                .bind(kind == Kind::NotifyAlways)
                .execute(&mut *work)
                .await?;
        }
    }
    Ok(work.commit(events).await?)
}

//! One business transaction, which ends with its events.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

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
        if events.is_empty() {
            // PostgreSQL answers the commit of a transaction in which a statement has failed with a rollback, and no error.
            // Any statement before it is refused; the append is one.
            sqlx::query("select").execute(&mut *self.transaction).await?;
            return Ok(self.transaction.commit().await?);
        }
        append(&mut self.transaction, events, Quiet::is_over()).await?;
        self.transaction.commit().await?;
        Quiet::begins();
        Ok(())
    }

    /// The same for keys that have no row to lock: before it appends, it takes an advisory lock for every key of the
    /// events, in the order of the keys' bytes, and holds it until the end of the transaction.
    ///
    /// It orders transactions that only append. One that reads what its events say takes [`UnitOfWork::lock`] first.
    pub async fn commit_locked(mut self, events: Vec<Event>) -> Result<(), Error> {
        let keys: Vec<Vec<u8>> = events.iter().filter_map(|event| event.key.clone()).collect();
        self.lock(&keys).await?;
        self.commit(events).await
    }

    /// Waits for every other transaction that has locked one of these keys, and keeps others out until the end of this
    /// one. Keys that share a 64-bit hash wait for each other too.
    pub async fn lock<K: AsRef<[u8]>>(&mut self, keys: &[K]) -> Result<(), Error> {
        let mut keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        // In one order for all, or two transactions could wait for each other.
        keys.sort_unstable();
        keys.dedup();
        if !keys.is_empty() {
            sqlx::query(include_str!("sql/lock.sql")).bind(keys).execute(&mut *self.transaction).await?;
        }
        Ok(())
    }
}

/// Whether the relay may have gone to sleep. While this process commits events more often than [`Quiet::SPELL`], the
/// relay polls often enough by itself; a notification in every transaction would cost more than half of the write rate,
/// because PostgreSQL serialises the commits of those that notify.
struct Quiet;

/// Milliseconds since [`START`] of this process's last commit with events; 0 before the first.
static LAST_COMMIT: AtomicU64 = AtomicU64::new(0);
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Quiet {
    const SPELL: Duration = Duration::from_millis(50);

    fn begins() {
        LAST_COMMIT.store(Self::now(), Ordering::Relaxed);
    }

    fn is_over() -> bool {
        let last = LAST_COMMIT.load(Ordering::Relaxed);
        last == 0 || u128::from(Self::now() - last.min(Self::now())) >= Self::SPELL.as_millis()
    }

    fn now() -> u64 {
        u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
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

async fn append(connection: &mut PgConnection, events: Vec<Event>, wake: bool) -> Result<(), Error> {
    for event in &events {
        let size = event.size();
        if size > MAX_EVENT_BYTES {
            return Err(Error::TooLarge { topic: event.topic.to_string(), size, limit: MAX_EVENT_BYTES });
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
        .bind(wake)
        .execute(connection)
        .await?;
    Ok(())
}

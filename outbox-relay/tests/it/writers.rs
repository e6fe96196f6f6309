//! Services under load: transactions that lock an account, do business, and append their events last, in every way in
//! which a transaction can go on and end.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use outbox::{Event, Headers, UnitOfWork};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    scene::{Scene, TOPICS, Topics},
    writers::plan::{End, Plan, Savepoint},
};

mod plan;

/// How long a transaction that is being ended may take.
const WITHIN: Duration = Duration::from_secs(20);
/// What a transaction fails with that has waited too long for a lock. The second is what PostgreSQL makes of it where the
/// timer fires in the moment in which the lock is had: it interrupts by the same signal as a request to cancel, and
/// nobody here sends one.
const WAITED_TOO_LONG: [&str; 2] = ["55P03", "57014"];

/// A topic that takes no more than 20,000 bytes. Every 20th event of a key is larger, if it goes there.
pub const SMALL: &str = "small";

/// How much of what.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Repeats the same decisions.
    pub seed: u64,
    /// Sessions with short transactions.
    pub quick: u64,
    /// Sessions with transactions that stay open for a second or more.
    pub slow: u64,
    /// Bytes of each payload.
    pub payload: usize,
}

/// What the writers know about their transactions.
#[derive(Debug, Default)]
pub struct Tally {
    committed: Mutex<HashSet<Uuid>>,
    failed: Mutex<Vec<String>>,
}

/// Writers at work.
pub struct Writers {
    tally: Arc<Tally>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    superuser: PgPool,
}

struct Writer {
    name: String,
    random: StdRng,
    slow: bool,
    payload: usize,
    topics: Topics,
    options: PgConnectOptions,
    pool: PgPool,
    tally: Arc<Tally>,
    stop: CancellationToken,
}

impl Tally {
    /// How many events were committed, as far as the writers know.
    pub fn committed(&self) -> usize {
        lock(&self.committed).len()
    }

    /// One event more was committed.
    pub fn add(&self, id: Uuid) {
        lock(&self.committed).insert(id);
    }

    /// The ids of the events whose commit was acknowledged.
    pub fn acknowledged(&self) -> HashSet<Uuid> {
        lock(&self.committed).clone()
    }

    /// What transactions have failed with, except for waits for another's lock.
    pub fn failed(&self) -> Vec<String> {
        lock(&self.failed).clone()
    }
}

impl Writers {
    /// Sets them to work, with the topics of every scene.
    pub fn start(scene: &Scene, load: Load) -> anyhow::Result<Self> {
        Self::start_with(scene, load, TOPICS)
    }

    /// Sets them to work.
    pub fn start_with(scene: &Scene, load: Load, topics: Topics) -> anyhow::Result<Self> {
        let (tally, stop, mut tasks) = (Arc::<Tally>::default(), CancellationToken::new(), JoinSet::new());
        let options = scene.writer()?;
        let pool = PgPoolOptions::new().max_connections(20).connect_lazy_with(options.clone());
        for number in 0..load.quick + load.slow {
            let writer = Writer {
                name: format!("{}{number}", scene.prefix),
                random: StdRng::seed_from_u64(load.seed.wrapping_mul(1_000).wrapping_add(number)),
                slow: number >= load.quick,
                payload: load.payload,
                topics,
                options: options.clone(),
                pool: pool.clone(),
                tally: Arc::clone(&tally),
                stop: stop.clone(),
            };
            tasks.spawn(writer.work());
        }
        if load.slow > 0 {
            tasks.spawn(idle_in_transaction(options, StdRng::seed_from_u64(load.seed), stop.clone()));
        }
        Ok(Self { tally, tasks, stop, superuser: scene.superuser.clone() })
    }

    /// What they know so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Has them finish. What they have prepared and left behind is committed or rolled back.
    pub async fn stop(mut self) -> anyhow::Result<Arc<Tally>> {
        self.stop.cancel();
        while let Some(ended) =
            timeout(WITHIN, self.tasks.join_next()).await.context("a writer does not end")?
        {
            ended.context("a writer has panicked")?;
        }
        let left: Vec<String> = sqlx::query_scalar(
            "select gid from pg_prepared_xacts where database = current_database() order by gid",
        )
        .fetch_all(&self.superuser)
        .await?;
        for (number, gid) in left.into_iter().enumerate() {
            let end = if number % 2 == 0 { "commit" } else { "rollback" };
            sqlx::raw_sql(AssertSqlSafe(format!("{end} prepared '{gid}'"))).execute(&self.superuser).await?;
        }
        Ok(self.tally)
    }
}

impl Writer {
    /// Transaction after transaction, over new connections where one is lost.
    async fn work(mut self) {
        let mut connection = None;
        let mut number = 0;
        while !self.stop.is_cancelled() {
            number += 1;
            let plan = Plan::draw(&mut self.random, self.slow, self.topics);
            let gid = format!("{}-{number}", self.name);
            let done = self.transaction(&plan, &gid, &mut connection).await;
            match done {
                Ok(committed) => lock(&self.tally.committed).extend(committed),
                Err(error) => {
                    let waited = matches!(&error, outbox::Error::Sql(sqlx::Error::Database(database))
                        if database.code().is_some_and(|code| WAITED_TOO_LONG.contains(&&*code)));
                    if !waited {
                        lock(&self.tally.failed).push(format!("{error:?}"));
                        connection = None;
                        // A server that is away needs no hammering.
                        self.pause(Duration::from_millis(50)).await;
                    }
                }
            }
            if let Some(open) = &mut connection
                && sqlx::raw_sql("rollback").execute(open).await.is_err()
            {
                connection = None;
            }
        }
    }

    /// The ids of what was committed.
    async fn transaction(
        &self,
        plan: &Plan,
        gid: &str,
        connection: &mut Option<PgConnection>,
    ) -> Result<Vec<Uuid>, outbox::Error> {
        if plan.end == End::UnitOfWork {
            let mut work = UnitOfWork::begin(&self.pool).await?;
            let events = self.business(plan, &mut work).await?;
            let ids = events.iter().map(|event| event.id).collect();
            work.commit(events).await?;
            return Ok(ids);
        }
        let mut open = match connection.take() {
            Some(open) => open,
            None => PgConnection::connect_with(&self.options).await?,
        };
        let ended = self.by_hand(plan, gid, &mut open).await;
        // One that vanishes closes its socket in the middle of its transaction.
        if plan.end != End::Vanish {
            *connection = Some(open);
        }
        Ok(ended?)
    }

    async fn by_hand(&self, plan: &Plan, gid: &str, open: &mut PgConnection) -> sqlx::Result<Vec<Uuid>> {
        sqlx::raw_sql("begin").execute(&mut *open).await?;
        let events = self.business(plan, open).await?;
        match plan.append {
            Savepoint::None => append(open, &events).await?,
            Savepoint::Kept => {
                sqlx::raw_sql("savepoint appending").execute(&mut *open).await?;
                append(open, &events).await?;
                sqlx::raw_sql("release appending").execute(&mut *open).await?;
            }
            Savepoint::RolledBack => {
                sqlx::raw_sql("savepoint appending").execute(&mut *open).await?;
                append(open, &events).await?;
                sqlx::raw_sql("rollback to appending").execute(&mut *open).await?;
                append(open, &events).await?;
            }
        }
        self.pause(plan.before_end).await;
        let end = match plan.end {
            End::Commit | End::UnitOfWork => "commit".to_owned(),
            End::Rollback => "rollback".to_owned(),
            End::Vanish => return Ok(Vec::new()),
            End::Prepare { commit } => {
                sqlx::raw_sql(AssertSqlSafe(format!("prepare transaction '{gid}'")))
                    .execute(&mut *open)
                    .await?;
                self.pause(plan.prepared).await;
                format!("{} prepared '{gid}'", if commit { "commit" } else { "rollback" })
            }
        };
        sqlx::raw_sql(AssertSqlSafe(end)).execute(open).await?;
        let committed = matches!(plan.end, End::Commit | End::Prepare { commit: true });
        Ok(events.iter().filter(|_| committed).map(|event| event.id).collect())
    }

    /// Everything before the append; returns what is to be appended.
    async fn business(&self, plan: &Plan, connection: &mut PgConnection) -> sqlx::Result<Vec<Event>> {
        if plan.early_xid {
            sqlx::raw_sql("select pg_current_xact_id()").execute(&mut *connection).await?;
        }
        self.pause(plan.before_locks).await;
        let mut events = Vec::new();
        for step in &plan.steps {
            if step.savepoint != Savepoint::None {
                sqlx::raw_sql("savepoint step").execute(&mut *connection).await?;
            }
            let id = Uuid::now_v7();
            // The update locks the account: nobody else of this key appends before this transaction has ended.
            let sequence: i64 = sqlx::query_scalar(
                "with account as (update account set version = version + 1 where key = $1 returning version)
                insert into posting (event_id, topic, key, sequence)
                select $2, $3, $1, version from account returning sequence",
            )
            .bind(&step.key)
            .bind(id)
            .bind(step.topic)
            .fetch_one(&mut *connection)
            .await?;
            match step.savepoint {
                Savepoint::None => {}
                Savepoint::Kept => {
                    sqlx::raw_sql("release step").execute(&mut *connection).await?;
                }
                Savepoint::RolledBack => {
                    sqlx::raw_sql("rollback to step").execute(&mut *connection).await?;
                    continue;
                }
            }
            events.push(event(id, step.topic, &step.key, sequence, self.payload));
        }
        Ok(events)
    }

    async fn pause(&self, duration: Duration) {
        if !duration.is_zero() {
            let _ = timeout(duration, self.stop.cancelled()).await;
        }
    }
}

/// The event of a posting: everything about it follows from these.
pub fn event(id: Uuid, topic: &'static str, key: &str, sequence: i64, payload: usize) -> Event {
    let mut headers = Headers::default();
    headers.push_text("ce_id", id.to_string());
    headers.push_text("ce_sequence", sequence.to_string());
    headers.push("twice", Some(b"first\0".to_vec()));
    headers.push("null", None);
    headers.push_text("twice", "second");
    let mut text = format!("{key} {sequence} {id} ").into_bytes();
    text.resize(text.len().max(payload), b'.');
    if is_too_large(topic, sequence) {
        // Nothing that a compression could make smaller.
        text.resize(30_000, 0);
        StdRng::seed_from_u64(id.as_u64_pair().1).fill_bytes(&mut text);
    }
    Event {
        id,
        topic: topic.into(),
        key: Some(key.as_bytes().to_vec()),
        aggregate_id: Some(key.to_owned()),
        sequence: Some(sequence),
        headers,
        payload: Some(text),
        partition: None,
    }
}

/// Whether Kafka refuses this event.
pub fn is_too_large(topic: &str, sequence: i64) -> bool {
    topic == SMALL && sequence % 20 == 0
}

/// What [`UnitOfWork::commit`] does, without the commit.
async fn append(connection: &mut PgConnection, events: &[Event]) -> sqlx::Result<()> {
    for event in events {
        sqlx::query(
            "insert into outbox.event (event_id, topic, key, aggregate_id, sequence, headers, payload)
            values ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(event.id)
        .bind(&*event.topic)
        .bind(&event.key)
        .bind(&event.aggregate_id)
        .bind(event.sequence)
        .bind(event.headers.encode())
        .bind(&event.payload)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Holds an old snapshot open, with and without a transaction id, over and over.
async fn idle_in_transaction(options: PgConnectOptions, mut random: StdRng, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let held = random.random_range(500..3_000);
        if let Ok(mut connection) = PgConnection::connect_with(&options).await {
            let mut begin = "begin isolation level repeatable read; select count(*) from account;".to_owned();
            if random.random_bool(0.5) {
                begin.push_str("select pg_current_xact_id()");
            }
            let _ = sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut connection).await;
            let _ = timeout(Duration::from_millis(held), stop.cancelled()).await;
            let _ = connection.close().await;
        } else {
            let _ = timeout(Duration::from_millis(50), stop.cancelled()).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

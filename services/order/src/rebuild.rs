//! Rebuilds the view `orders` from `order_events`, beside the running service.
//!
//! The whole history is folded into a table of its own, which then catches up with the orders that have changed
//! meanwhile, is compared with the view, and takes its place where that is wanted.
//!
//! Which orders have changed is told neither by ids nor by times: a transaction that began before the first page was
//! read may commit after the last, and its order has an id that was passed long ago. It is told by the versions of all
//! orders in the two tables. Every event is written in one transaction with its order's row in the view, under that row's
//! lock: so an order with an event that was not read has a row whose version is not the one that was rebuilt, whenever
//! its transaction commits. Under a lock that no writer passes, there is no transaction left to commit.

mod bound;
mod catch_up;
mod compare;
mod fold;
mod table;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use outbox::Roles;
use serde::Serialize;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::time::timeout;
use uuid::Uuid;

pub use self::compare::Difference;
use self::{bound::Bound, table::View};

/// Two rebuilds at a time would drop each other's tables.
const ADVISORY_LOCK: i64 = 0x6f72_6465_7273_5f72;
/// Where fewer orders than this change during a round, the rest is done at one moment.
const FEW: usize = 100;
/// Rounds at the most: a platform that is too busy for them is caught up with under the lock.
const ROUNDS: usize = 20;
/// How often the lock is tried for.
const ATTEMPTS: u32 = 10;
/// How long one attempt may keep writers waiting, as PostgreSQL sees to. Services give up after 10 s.
const LOCKED: Duration = Duration::from_secs(8);
/// How much longer its answers are waited for.
const GRACE: Duration = Duration::from_secs(1);
/// Pause after the first attempt, for those who were kept waiting; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// SQLSTATEs after which it is tried again: the lock was not to be had, or a deadlock.
const AGAIN: [&str; 2] = ["55P03", "40P01"];
/// SQLSTATE of a statement that took too long. The next attempt would keep writers waiting as long, and for nothing.
const TOO_LONG: &str = "57014";
/// How long it may take to drop what is useless.
const CLEANING: Duration = Duration::from_secs(10);

/// What a rebuild is to do beyond comparing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Put the rebuilt view in the place of the live one, which is kept as `orders_before_rebuild`.
    pub swap: bool,
    /// Delete what an earlier or this swap has kept.
    pub drop_old: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The history is read.
    Reading {
        /// Events so far.
        events: u64,
        /// Orders so far.
        orders: u64,
    },
    /// Indexes are made.
    Indexing,
    /// Orders that have changed meanwhile are rebuilt again.
    CatchingUp {
        /// How many.
        orders: usize,
    },
    /// Each order is compared.
    Comparing,
    /// The lock is waited for.
    Swapping {
        /// From 1.
        attempt: u32,
    },
}

/// What was found and done.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Events that were read.
    pub events: u64,
    /// Orders that they make.
    pub orders: u64,
    /// How long reading and folding them took.
    pub reading_seconds: f64,
    /// Events a second, meanwhile.
    pub events_per_second: f64,
    /// Everything together.
    pub seconds: f64,
    /// Orders that were rebuilt again because they had changed, counted each time.
    pub caught_up: usize,
    /// Orders in which the live view was not what its history makes.
    pub different_orders: u64,
    /// Values in which it was not.
    pub different_values: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
    /// Whether the rebuilt view is the live one now.
    pub swapped: bool,
    /// How long writers had to wait for that.
    pub locked_seconds: Option<f64>,
}

/// Rebuilds the view as the owner of the database. A table that a rebuild has left behind unfinished is dropped.
///
/// # Errors
/// When another rebuild runs, a history cannot be read, the lock is not to be had, or PostgreSQL refuses.
pub async fn rebuild(
    database: &PgConnectOptions,
    roles: &Roles<'_>,
    options: Options,
    mut progress: impl FnMut(Progress) + Send,
) -> anyhow::Result<Report> {
    let mut connection = database.connect().await.context("connect to the order database")?;
    // A rebuild that a crash has eaten is begun anew; the swap is written durably.
    sqlx::raw_sql("set synchronous_commit = off; set client_min_messages = warning")
        .execute(&mut connection)
        .await?;
    let free: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)")
        .bind(ADVISORY_LOCK)
        .fetch_one(&mut connection)
        .await?;
    anyhow::ensure!(free, "another rebuild runs; wait for it, or end it");
    let rebuild = Rebuild { connection: &mut connection, roles, options, progress: &mut progress };
    let report = match rebuild.run().await {
        Ok(report) => report,
        Err(error) => {
            // It has payment tokens.
            let dropped = timeout(CLEANING, table::drop_rebuilt(&mut connection)).await;
            if !matches!(dropped, Ok(Ok(()))) {
                tracing::warn!("orders_rebuilt may be left behind; the next rebuild drops it");
            }
            return Err(error);
        }
    };
    // Closing the session gives the lock back.
    connection.close().await?;
    Ok(report)
}

struct Rebuild<'a> {
    connection: &'a mut PgConnection,
    roles: &'a Roles<'a>,
    options: Options,
    progress: &'a mut (dyn FnMut(Progress) + Send),
}

impl Rebuild<'_> {
    async fn run(self) -> anyhow::Result<Report> {
        let Self { connection, roles, options, progress } = self;
        let started = Instant::now();
        let view = View::read(connection).await?;
        if options.swap {
            view.is_all_there_is(connection).await?;
        }
        view.create(connection).await?;
        let read = fold::history(connection, progress).await?;
        let reading_seconds = started.elapsed().as_secs_f64();
        progress(Progress::Indexing);
        view.index(connection).await?;

        let mut caught_up = 0;
        for _ in 0..ROUNDS {
            let moved = catch_up::round(connection, Bound::NONE).await?;
            progress(Progress::CatchingUp { orders: moved.orders.len() });
            caught_up += moved.orders.len();
            if moved.changed < FEW {
                break;
            }
        }
        progress(Progress::Comparing);
        compare::prepare(connection).await?;
        caught_up += compare_at_one_moment(connection).await?;
        let mut locked_seconds = None;
        if options.swap {
            let swap = swap(connection, &view, roles, progress).await?;
            caught_up += swap.moved;
            locked_seconds = Some(swap.locked.as_secs_f64());
        } else {
            table::drop_rebuilt(connection).await?;
        }
        if options.drop_old {
            view.drop_old(connection).await?;
        }
        let found = compare::found(connection).await?;
        Ok(Report {
            events: read.events,
            orders: read.orders,
            reading_seconds,
            events_per_second: read.events as f64 / reading_seconds.max(f64::EPSILON),
            seconds: started.elapsed().as_secs_f64(),
            caught_up,
            different_orders: found.orders,
            different_values: found.values,
            differences: found.differences,
            swapped: options.swap,
            locked_seconds,
        })
    }
}

/// Catches up and compares in one snapshot, so that nothing moves in between and nobody waits.
async fn compare_at_one_moment(connection: &mut PgConnection) -> anyhow::Result<usize> {
    let mut moment = connection.begin_with("begin isolation level repeatable read").await?;
    let moved = catch_up::round(&mut moment, Bound::NONE).await?.orders.len();
    compare::all(&mut moment).await?;
    moment.commit().await?;
    Ok(moved)
}

struct Swap {
    /// How many orders had changed since they were compared.
    moved: usize,
    locked: Duration,
}

async fn swap(
    connection: &mut PgConnection,
    view: &View,
    roles: &Roles<'_>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> anyhow::Result<Swap> {
    let mut moved = HashSet::new();
    for attempt in 1..=ATTEMPTS {
        progress(Progress::Swapping { attempt });
        // As little as possible is left to do under the lock.
        moved.extend(catch_up::round(connection, Bound::NONE).await?.orders);
        let swapped = timeout(LOCKED + GRACE, try_swap(connection, view, roles, &mut moved)).await;
        let error = match swapped {
            Ok(Ok(locked)) => return Ok(Swap { moved: moved.len(), locked }),
            Ok(Err(error)) => error,
            Err(late) => return Err(anyhow::Error::from(late).context(too_many(moved.len()))),
        };
        match sqlstate(&error) {
            Some(code) if code == TOO_LONG => return Err(error.context(too_many(moved.len()))),
            Some(code) if AGAIN.contains(&&*code) => {}
            _ => return Err(error),
        }
        if attempt == ATTEMPTS {
            return Err(error.context(format!(
                "nothing was swapped, because the tables were in use in {ATTEMPTS} attempts; end the long \
                 transactions that use orders, or swap later"
            )));
        }
        tracing::debug!(error = format!("{error:#}"), attempt, "not swapped yet");
        tokio::time::sleep(pause(attempt)).await;
    }
    anyhow::bail!("the view was not swapped")
}

/// `moved` are the orders that have changed since all were compared.
async fn try_swap(
    connection: &mut PgConnection,
    view: &View,
    roles: &Roles<'_>,
    moved: &mut HashSet<Uuid>,
) -> anyhow::Result<Duration> {
    let bound = Bound::within(LOCKED);
    let mut work = connection.begin().await?;
    view.lock_writers(&mut work, bound).await.context("wait until nobody writes to orders")?;
    let locked = Instant::now();
    // No migration of orders passes the lock, either.
    view.is_as_it_was(&mut work).await?;
    view.is_all_there_is(&mut work).await?;
    moved.extend(catch_up::round(&mut work, bound).await.context("catch up under the lock")?.orders);
    compare::again(&mut work, &moved.iter().copied().collect::<Vec<_>>(), bound).await?;
    view.swap(&mut work, roles, bound).await?;
    work.commit().await.context("swap")?;
    Ok(locked.elapsed())
}

fn pause(attempt: u32) -> Duration {
    PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}

fn too_many(moved: usize) -> String {
    format!(
        "nothing was swapped, because writers would have to wait for longer than {} s: too many orders change, or are \
         not what their events say ({moved} since they were compared); swap when less is going on",
        LOCKED.as_secs()
    )
}

fn sqlstate(error: &anyhow::Error) -> Option<String> {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<sqlx::Error>());
    causes.find_map(|error| Some(error.as_database_error()?.code()?.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_between_attempts_grow() {
        let pauses: Vec<u128> = (1..ATTEMPTS).map(|attempt| pause(attempt).as_millis()).collect();
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000, 10_000]);
    }
}

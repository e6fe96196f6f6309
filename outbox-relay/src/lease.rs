//! Who publishes an outbox: a row with an epoch and the owner's UUID, fresh per acquisition, that fences every write.
//!
//! Nobody compares clocks. The owner beats once a second; a standby that has seen the same epoch and beat for
//! [`PATIENCE`] of its own monotonic clock takes over, at once when the owner has released the lease.

use std::time::Duration;

use sqlx::{Connection, PgConnection, Row as _};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{cursor::Position, session::Session};

/// How often the owner beats.
pub const BEAT: Duration = Duration::from_secs(1);
/// How long a standby watches an unchanged beat before it takes over.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Why the lease was not to be had, or not to be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The session failed.
    #[error("the session with PostgreSQL was lost")]
    Sql(#[from] sqlx::Error),
    /// Another relay has taken the lease.
    #[error("another relay has taken the lease")]
    Fenced,
    /// The migration that creates the cursor has not run.
    #[error("outbox.cursor has no row: run the service's `migrate`")]
    NoCursor,
    /// The database was copied or restored into another cluster.
    #[error(
        "the cursor belongs to the PostgreSQL cluster with system identifier {stored}, this is {found}: transaction ids \
         start anew here, and events would be skipped; go back to the original, or run `outbox-relay rebase` to go on here"
    )]
    OtherCluster {
        /// What the cursor says.
        stored: i64,
        /// What the server says.
        found: i64,
    },
    /// The cursor is ahead of the server's transaction counter.
    #[error(
        "the cursor is ahead of this server's transactions, so the database was restored: events would be skipped; run \
         `outbox-relay rebase`"
    )]
    Ahead,
}

/// What a standby sees of the lease.
#[derive(Debug, PartialEq, Eq)]
struct Observed {
    epoch: i64,
    owner: Option<Uuid>,
    beat: i64,
    timeline: Option<i32>,
}

/// A standby's view, and since when it has not changed.
#[derive(Debug)]
pub struct Watch {
    observed: Observed,
    since: Instant,
}

/// The right to publish, for as long as every fenced write finds its row.
#[derive(Debug)]
pub struct Lease {
    /// Rises with every acquisition.
    pub epoch: i64,
    /// Only of this acquisition.
    pub owner: Uuid,
    confirmed: Instant,
}

impl Watch {
    /// Looks at the lease once and takes it when it is free or abandoned. `watch` is what the last look saw, `mine` the
    /// owner that this process was before it lost its session.
    pub async fn look(
        watch: Option<Self>,
        mine: Option<Uuid>,
        session: &mut Session,
    ) -> Result<Result<(Lease, Position), Self>, Error> {
        let observed = observe(session).await?;
        let watch = match watch {
            Some(watch) if watch.observed == observed => watch,
            _ => Self { observed, since: Instant::now() },
        };
        let foreign = watch.observed.owner.is_some() && watch.observed.owner != mine;
        if foreign && watch.since.elapsed() < PATIENCE {
            return Ok(Err(watch));
        }
        Ok(acquire(session, &watch.observed).await?.ok_or(watch))
    }
}

impl Lease {
    /// Beats when a beat is due. To be called before anything is published.
    pub async fn keep(&mut self, connection: &mut PgConnection) -> Result<(), Error> {
        if self.confirmed.elapsed() < BEAT {
            return Ok(());
        }
        let now = Instant::now();
        let done = sqlx::query(include_str!("sql/beat.sql"))
            .bind(self.epoch)
            .bind(self.owner)
            .execute(connection)
            .await?;
        if done.rows_affected() == 0 {
            return Err(Error::Fenced);
        }
        self.confirmed = now;
        Ok(())
    }

    /// Gives the lease up, so that a standby takes over at once.
    pub async fn release(self, connection: &mut PgConnection) -> Result<(), Error> {
        let mut transaction = synchronous(connection).await?;
        sqlx::query(include_str!("sql/release.sql"))
            .bind(self.epoch)
            .bind(self.owner)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }
}

async fn observe(session: &mut Session) -> Result<Observed, Error> {
    let found = session.system_identifier;
    let row = sqlx::query(include_str!("sql/observe.sql")).fetch_optional(&mut session.connection).await?;
    let row = row.ok_or(Error::NoCursor)?;
    match row.try_get::<Option<i64>, _>("system_identifier")? {
        Some(stored) if stored != found => return Err(Error::OtherCluster { stored, found }),
        _ => {}
    }
    if row.try_get("ahead")? {
        return Err(Error::Ahead);
    }
    Ok(Observed {
        epoch: row.try_get("epoch")?,
        owner: row.try_get("owner")?,
        beat: row.try_get("beat")?,
        timeline: row.try_get("timeline")?,
    })
}

/// `None` when another standby was faster, or the owner came back.
async fn acquire(session: &mut Session, observed: &Observed) -> Result<Option<(Lease, Position)>, Error> {
    let (owner, confirmed) = (Uuid::new_v4(), Instant::now());
    let (system_identifier, timeline) = (session.system_identifier, session.timeline);
    let mut transaction = synchronous(&mut session.connection).await?;
    let row = sqlx::query(include_str!("sql/acquire.sql"))
        .bind(owner)
        .bind(observed.epoch)
        .bind(observed.owner)
        .bind(observed.beat)
        .bind(system_identifier)
        .bind(timeline)
        .fetch_optional(&mut *transaction)
        .await?;
    transaction.commit().await?;
    let Some(row) = row else { return Ok(None) };
    if let Some(before) = observed.timeline.filter(|&before| before != timeline) {
        tracing::warn!(
            before,
            timeline,
            "the server has failed over: events that it lost may have been published"
        );
    }
    let position = Position::new(row.try_get("snap")?, row.try_get("win")?, row.try_get("win_id")?)?;
    Ok(Some((Lease { epoch: row.try_get("epoch")?, owner, confirmed }, position)))
}

async fn synchronous(
    connection: &mut PgConnection,
) -> Result<sqlx::Transaction<'_, sqlx::Postgres>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query("set local synchronous_commit = on").execute(&mut *transaction).await?;
    Ok(transaction)
}

//! The dispatcher of the log channel. A line costs next to nothing beside its transaction: many share one.

use std::error::Error as _;

use consumer::dispatch::{Dispatch, Performed};
use outbox::UnitOfWork;
use sqlx::PgPool;
use tracing::warn;
use uuid::Uuid;

use super::{LEASE, output};
use crate::{
    domain::{self, Channel},
    store::{self, Claimed, Tried},
};

/// How many lines share a transaction at most.
const BATCH: i64 = 500;

/// Writes the lines of the log channel. It never gives one up: nobody but this installation can refuse it.
pub struct Lines {
    /// Where the intents are.
    pub pool: PgPool,
}

impl Lines {
    /// Batches at a time: one is written while another's outcome is.
    pub const CONCURRENCY: usize = 2;
}

impl Dispatch for Lines {
    type Intent = Vec<Claimed>;
    const NAME: &'static str = "log";

    fn id(batch: &Vec<Claimed>) -> Uuid {
        batch.first().map(|claimed| claimed.notification_id).unwrap_or_default()
    }

    /// One batch, or none.
    async fn claim(&self, _: i64) -> Result<Vec<Vec<Claimed>>, sqlx::Error> {
        let batch = store::claim(&mut *self.pool.acquire().await?, Channel::LOG, BATCH, LEASE).await?;
        Ok(if batch.is_empty() { Vec::new() } else { vec![batch] })
    }

    /// One attempt. When its outcome cannot be written, the claims run out and the lines are written again.
    async fn perform(&self, batch: Vec<Claimed>) -> Result<Performed, outbox::Error> {
        let (taken, written) = output::write(&batch).await;
        let (taken, left) = batch.split_at(taken);
        let mut work = UnitOfWork::begin(&self.pool).await?;
        let taken: Vec<Uuid> = taken.iter().map(|claimed| claimed.notification_id).collect();
        store::delivered(&mut work, &taken).await?;
        if let Err(error) = written {
            let cause = error.source().map(ToString::to_string);
            warn!(lines = left.len(), %error, cause, "notifications not written; trying again");
            let tried = |claimed: &Claimed| Tried {
                notification_id: claimed.notification_id,
                attempt: claimed.attempts,
                wait: domain::backoff(claimed.attempts, false),
            };
            store::retry(&mut work, &left.iter().map(tried).collect::<Vec<_>>()).await?;
        }
        work.commit(Vec::new()).await?;
        // Standard output has no outages that calls could make worse.
        Ok(Performed::Answered)
    }
}

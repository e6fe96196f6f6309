//! Follows acknowledged orders to their final status by reading the order database.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::tally::{self, Tally};

/// How often the database is asked, and about how many orders at once: enough for 40,000 orders a second.
const INTERVAL: Duration = Duration::from_millis(50);
const BATCH: usize = 2000;
/// Longest time for one answer.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// With the time of the confirmation where that is what the order came to, for its shipment changes the order again.
const FINAL_ORDERS: &str = "select order_id, status, coalesce(
        (select min(occurred_at) from order_events e
         where e.order_id = o.order_id and event = 'OrderConfirmed' and status = 'CONFIRMED'), updated_at)
    from orders o where order_id = any($1) and status in ('CONFIRMED', 'REJECTED', 'CANCELLED', 'NEEDS_ATTENTION')";

/// An acknowledged order, when it was due, and whether it has been cancelled: then it may be confirmed for a moment, which
/// is not its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) order_id: Uuid,
    pub(super) intended: OffsetDateTime,
    pub(super) cancelled: bool,
}

/// Orders that have not been seen in a final status yet, the one that waits longest for a look first.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<VecDeque<Open>>);

impl Queue {
    pub(super) fn push(&self, order: Open) {
        self.orders().push_back(order);
    }

    /// How many are left.
    pub(super) fn len(&self) -> usize {
        self.orders().len()
    }

    fn orders(&self) -> MutexGuard<'_, VecDeque<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts final orders until none is left after `complete`, or `patience` has passed since then.
///
/// A latency ends at the time that the order service has written down by the same machine's clock: looking rarely makes
/// it no longer. A database that does not answer is asked again.
pub(super) async fn follow(
    pool: &PgPool,
    queue: &Queue,
    tally: &Tally,
    started_at: OffsetDateTime,
    complete: &CancellationToken,
    patience: Duration,
) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut deadline = None;
    loop {
        ticks.tick().await;
        let done = complete.is_cancelled();
        if let Err(error) = look(pool, queue, tally, started_at).await {
            tracing::warn!(%error, "order database did not answer");
        }
        if done {
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + patience);
            if queue.len() == 0 || Instant::now() >= deadline {
                return;
            }
        }
    }
}

async fn look(pool: &PgPool, queue: &Queue, tally: &Tally, started_at: OffsetDateTime) -> anyhow::Result<()> {
    let batch: Vec<Open> = {
        let mut orders = queue.orders();
        let count = orders.len().min(BATCH);
        orders.drain(..count).collect()
    };
    if batch.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = batch.iter().map(|open| open.order_id).collect();
    let query = sqlx::query_as::<_, (Uuid, String, OffsetDateTime)>(FINAL_ORDERS).bind(ids).fetch_all(pool);
    let answer = match tokio::time::timeout(QUERY_TIMEOUT, query).await {
        Ok(answer) => answer.map_err(anyhow::Error::from),
        Err(elapsed) => Err(elapsed.into()),
    };
    let rows = match answer {
        Ok(rows) => rows,
        Err(error) => {
            queue.orders().extend(batch);
            return Err(error);
        }
    };
    let mut found: HashMap<_, _> = rows.into_iter().map(|(id, status, at)| (id, (status, at))).collect();
    let mut counts = tally.counts();
    let mut orders = queue.orders();
    for open in batch {
        let ended = found.remove(&open.order_id);
        let Some((status, at)) = ended.filter(|(status, _)| status != "CONFIRMED" || !open.cancelled) else {
            orders.push_back(open);
            continue;
        };
        let latency = (at - open.intended).try_into().unwrap_or_default();
        tally::record(&mut counts.settle, latency);
        if status == "CONFIRMED" {
            tally::record(&mut counts.confirm, latency);
            counts.confirmed.add(open.order_id);
            counts.last_confirmed =
                counts.last_confirmed.max((at - started_at).try_into().unwrap_or_default());
        }
        *counts.finals.entry(status).or_default() += 1;
    }
    Ok(())
}

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

/// How often the database is asked, and about how many orders at once: enough for 20,000 orders a second.
const INTERVAL: Duration = Duration::from_millis(250);
const BATCH: usize = 5000;
/// An order is looked at when it is this old, then after half its age, but within the second: the database, which is what
/// is measured, would otherwise be busy with orders that are not even paid.
const FIRST_LOOK: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Longest time for one answer.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

const FINAL_ORDERS: &str = "select order_id, status, updated_at from orders
    where order_id = any($1) and status in ('CONFIRMED', 'REJECTED', 'CANCELLED', 'NEEDS_ATTENTION')";

/// For orders that came to their confirmation: their shipment has changed the order again.
const CONFIRMATIONS: &str = "select order_id, min(occurred_at) from order_events
    where order_id = any($1) and event = 'OrderConfirmed' group by order_id";

/// An acknowledged order, when it was due, and whether it has been cancelled: then it may be confirmed for a moment, which
/// is not its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) order_id: Uuid,
    pub(super) intended: OffsetDateTime,
    pub(super) cancelled: bool,
}

/// Orders that have not been seen in a final status yet.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<VecDeque<Waiting>>);

#[derive(Clone, Copy, Debug)]
struct Waiting {
    open: Open,
    since: Instant,
    /// When it is looked at.
    due: Instant,
}

impl Queue {
    pub(super) fn push(&self, order: Open) {
        let since = Instant::now();
        self.orders().push_back(Waiting { open: order, since, due: since + FIRST_LOOK });
    }

    /// How many are left.
    pub(super) fn len(&self) -> usize {
        self.orders().len()
    }

    /// Takes what is due, for one look; the others keep their order.
    fn take_due(&self, moment: Instant) -> Vec<Waiting> {
        let mut taken = Vec::new();
        self.orders().retain(|waiting| {
            let takes = waiting.due <= moment && taken.len() < BATCH;
            if takes {
                taken.push(*waiting);
            }
            !takes
        });
        taken
    }

    fn orders(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
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
        if done && Instant::now() >= *deadline.get_or_insert_with(|| Instant::now() + patience) {
            break;
        }
        if let Err(error) = look(pool, queue, tally, started_at, Instant::now()).await {
            tracing::warn!(%error, "order database did not answer");
        }
        if done && queue.len() == 0 {
            return;
        }
    }
    // Each of the others may have ended since it was looked at.
    for _ in 0..queue.len().div_ceil(BATCH) {
        if let Err(error) = look(pool, queue, tally, started_at, Instant::now() + LONGEST_PAUSE).await {
            tracing::warn!(%error, "order database did not answer");
        }
    }
}

/// One look at orders that are due at a moment.
async fn look(
    pool: &PgPool,
    queue: &Queue,
    tally: &Tally,
    started_at: OffsetDateTime,
    moment: Instant,
) -> anyhow::Result<()> {
    let batch = queue.take_due(moment);
    if batch.is_empty() {
        return Ok(());
    }
    let opens: Vec<_> = batch.iter().map(|waiting| waiting.open).collect();
    let answer = tokio::time::timeout(QUERY_TIMEOUT, ends(pool, &opens)).await;
    let answer = answer.map_err(anyhow::Error::from).and_then(|found| Ok(found?));
    let mut found = answer.inspect_err(|_| queue.orders().extend(batch.iter().copied()))?;
    let now = Instant::now();
    let mut counts = tally.counts();
    let mut orders = queue.orders();
    for waiting in batch {
        let open = waiting.open;
        let Some((status, at)) = found.remove(&open.order_id) else {
            orders.push_back(Waiting { due: now + pause(now - waiting.since), ..waiting });
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

/// The status that each order came to, and when; nothing of those that have not ended.
async fn ends(pool: &PgPool, open: &[Open]) -> sqlx::Result<HashMap<Uuid, (String, OffsetDateTime)>> {
    let ids: Vec<_> = open.iter().map(|open| open.order_id).collect();
    let rows: Vec<(Uuid, String, OffsetDateTime)> =
        sqlx::query_as(FINAL_ORDERS).bind(ids).fetch_all(pool).await?;
    let mut ends: HashMap<_, _> = rows.into_iter().map(|(id, status, at)| (id, (status, at))).collect();
    for open in open.iter().filter(|open| open.cancelled) {
        if ends.get(&open.order_id).is_some_and(|(status, _)| status == "CONFIRMED") {
            ends.remove(&open.order_id);
        }
    }
    let confirmed = ends.iter().filter(|(_, (status, _))| status == "CONFIRMED");
    let confirmed: Vec<_> = confirmed.map(|(id, _)| *id).collect();
    if !confirmed.is_empty() {
        let rows: Vec<(Uuid, OffsetDateTime)> =
            sqlx::query_as(CONFIRMATIONS).bind(confirmed).fetch_all(pool).await?;
        for (id, confirmed_at) in rows {
            if let Some((_, at)) = ends.get_mut(&id) {
                *at = confirmed_at;
            }
        }
    }
    Ok(ends)
}

/// Until an order of this age is looked at again.
fn pause(age: Duration) -> Duration {
    (age / 2).clamp(INTERVAL, LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(number: u128) -> Open {
        Open { order_id: Uuid::from_u128(number), intended: OffsetDateTime::UNIX_EPOCH, cancelled: false }
    }

    #[test]
    fn orders_are_looked_at_when_they_are_due_and_so_many_at_a_time() {
        let queue = Queue::default();
        let count = BATCH as u128 + 2;
        (0..count).for_each(|number| queue.push(order(number)));
        assert!(queue.take_due(Instant::now() - FIRST_LOOK).is_empty());
        let later = Instant::now() + FIRST_LOOK;
        let first = queue.take_due(later);
        assert_eq!((first.len(), queue.len()), (BATCH, 2));
        assert!(first.iter().zip(0..).all(|(waiting, number)| waiting.open.order_id.as_u128() == number));
        assert_eq!(queue.take_due(later).len(), 2);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn the_older_an_order_the_more_rarely_it_is_looked_at() {
        let of = |millis| pause(Duration::from_millis(millis)).as_millis();
        assert_eq!([of(0), of(500), of(1_000), of(60_000)], [250, 250, 500, 1_000]);
    }
}

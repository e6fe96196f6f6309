//! Reads what the database has of watched orders.

use std::{collections::HashMap, time::Duration};

use anyhow::Context as _;
use sqlx::PgPool;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::seen::Stored;

/// Orders that are asked for at once.
const PAGE: usize = 5_000;
/// How long one page may take.
const WITHIN: Duration = Duration::from_secs(30);
/// How long a database that does not answer is asked again, and how often.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

const EVENTS: &str = "select order_id, count(*)::integer, max(version)
    from order_events where order_id = any($1) group by order_id";

/// What there is of each order, in the same order; nothing of one that does not exist.
pub async fn read(pool: &PgPool, orders: &[Uuid]) -> anyhow::Result<Vec<Stored>> {
    let deadline = Instant::now() + PATIENCE;
    let mut all = Vec::with_capacity(orders.len());
    for ids in orders.chunks(PAGE) {
        let found = loop {
            match page(pool, ids).await {
                Ok(found) => break found,
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(error) => tracing::warn!(%error, "order database did not answer"),
            }
            sleep(PAUSE).await;
        };
        all.extend(ids.iter().map(|id| found.get(id).copied().unwrap_or_default()));
    }
    Ok(all)
}

async fn page(pool: &PgPool, ids: &[Uuid]) -> anyhow::Result<HashMap<Uuid, Stored>> {
    let rows = sqlx::query_as::<_, (Uuid, i32, i32)>(EVENTS).bind(ids).fetch_all(pool);
    let rows = timeout(WITHIN, rows).await.context("it took too long")??;
    Ok(rows.into_iter().map(|(id, events, last)| (id, Stored { events, last })).collect())
}

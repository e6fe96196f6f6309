//! Passes the deadlines of orders whose answers have not come.
//!
//! An answer may be there and not be read yet, and a request may not be published yet: after a long outage of Kafka all
//! deadlines would pass at once. So a deadline passes only when it is older than everything that is still on its way
//! through this service: the horizon.

use std::time::Duration;

use anyhow::Context as _;
use consumer::KafkaArgs;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    app::Orders,
    handlers::{PAYMENT_RESULTS, STOCK_RESULTS, SUBSCRIPTION},
    messages::{PAYMENT_REQUESTS, STOCK_REQUESTS},
    metrics::Metrics,
};

/// How late a deadline passes at the most, when nothing is on its way.
const LOOK: Duration = Duration::from_secs(1);
/// How long the group may take to read what is in its topics. Until then deadlines wait, and afterwards it is said.
const READ_WITHIN: Duration = Duration::from_secs(600);
/// From when on it is worth a warning that deadlines wait, in seconds.
const LATE_SECONDS: i64 = 60;
/// How many orders one transaction changes.
const BATCH: i64 = 100;

/// Runs until shutdown, beside others like it in other processes: each deadline is passed by one of them.
pub async fn keep(
    orders: &Orders,
    pool: &PgPool,
    kafka: &KafkaArgs,
    metrics: &Metrics,
    shutdown: CancellationToken,
) {
    while !shutdown.is_cancelled() {
        if let Some(Err(error)) = shutdown.run_until_cancelled(pass(orders, pool, kafka, metrics)).await {
            warn!(%error, "deadlines were not passed; trying again");
        }
        let _ = timeout(LOOK, shutdown.cancelled()).await;
    }
}

async fn pass(orders: &Orders, pool: &PgPool, kafka: &KafkaArgs, metrics: &Metrics) -> anyhow::Result<()> {
    let is_due = |next: Option<OffsetDateTime>| next.is_some_and(|next| next <= OffsetDateTime::now_utc());
    if !is_due(orders.next_deadline().await?) {
        metrics.horizon_is(None);
        return Ok(());
    }
    metrics.horizon_wanted();
    let published = outbox::published_until(pool, &[STOCK_REQUESTS, PAYMENT_REQUESTS]).await?;
    let topics = [STOCK_RESULTS, PAYMENT_RESULTS];
    let read = consumer::read_until(pool, kafka, SUBSCRIPTION.group, &topics, READ_WITHIN).await?;
    let read = read.with_context(|| {
        format!("the answers in {} were not read within {} s", topics.join(" and "), READ_WITHIN.as_secs())
    })?;
    let horizon = published.min(read);
    metrics.horizon_is(Some(horizon));
    if orders.next_deadline().await?.is_none_or(|next| next > horizon) {
        let late = (OffsetDateTime::now_utc() - horizon).whole_seconds();
        if late > LATE_SECONDS {
            warn!(late, "deadlines wait for requests that are not published");
        }
        return Ok(());
    }
    while orders.pass_deadlines(horizon, BATCH).await? > 0 {}
    Ok(())
}

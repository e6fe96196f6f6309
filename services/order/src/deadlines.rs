//! Passes the deadlines of orders whose answers have not come.
//!
//! An answer may be there and not be read yet, and a request may not be published yet: after a long outage of Kafka all
//! deadlines would pass at once. So a deadline passes only when it is older than everything that is still on its way
//! through this service: the horizon.

use std::time::Duration;

use consumer::KafkaArgs;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    app::Orders,
    handlers::{PAYMENT_RESULTS, STOCK_RESULTS, SUBSCRIPTION},
};

/// How late a deadline passes at the most, when nothing is on its way.
const LOOK: Duration = Duration::from_secs(1);
/// How long the group may take to read what is in its topics.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// How many orders one transaction changes.
const BATCH: i64 = 100;

/// Runs until shutdown, beside others like it in other processes: each deadline is passed by one of them.
pub async fn keep(orders: &Orders, pool: &PgPool, kafka: &KafkaArgs, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        if let Some(Err(error)) = shutdown.run_until_cancelled(pass(orders, pool, kafka)).await {
            warn!(%error, "deadlines were not passed; trying again");
        }
        let _ = timeout(LOOK, shutdown.cancelled()).await;
    }
}

async fn pass(orders: &Orders, pool: &PgPool, kafka: &KafkaArgs) -> anyhow::Result<()> {
    let is_due = |next: Option<OffsetDateTime>| next.is_some_and(|next| next <= OffsetDateTime::now_utc());
    if !is_due(orders.next_deadline().await?) {
        return Ok(());
    }
    let published = outbox::published_until(pool).await?;
    let topics = [STOCK_RESULTS, PAYMENT_RESULTS];
    let read = consumer::read_until(pool, kafka, SUBSCRIPTION.group, &topics, READ_WITHIN).await?;
    let Some(read) = read else { return Ok(()) };
    let horizon = published.min(read);
    while orders.pass_deadlines(horizon, BATCH).await? == BATCH as usize {}
    Ok(())
}

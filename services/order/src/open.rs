//! Looks how many orders are open, for how long, and how many of them are overdue.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{metrics::Metrics, store};

/// How old what is shown can be.
const LOOK: Duration = Duration::from_secs(10);

/// Shows it until shutdown. Every replica shows the same.
pub async fn show(pool: &PgPool, metrics: &Metrics, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        if let Some(Err(error)) = shutdown.run_until_cancelled(look(pool, metrics)).await {
            // Others report that the database is away.
            debug!(%error, "open orders were not counted");
            metrics.forget_open();
        }
        let _ = timeout(LOOK, shutdown.cancelled()).await;
    }
}

async fn look(pool: &PgPool, metrics: &Metrics) -> sqlx::Result<()> {
    let mut connection = pool.acquire().await?;
    let open = store::open(&mut connection).await?;
    let overdue = store::count_overdue(&mut connection).await?;
    metrics.show_open(&open, usize::try_from(overdue).unwrap_or_default());
    Ok(())
}

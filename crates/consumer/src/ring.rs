//! The ring of the inbox: what is older than it remembers makes room.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

/// Far more often than a leaf needs it.
const EVERY: Duration = Duration::from_secs(3600);

/// Clears expired leaves until shutdown.
pub(crate) async fn keep(pool: &PgPool, shutdown: CancellationToken) {
    loop {
        let cleared = sqlx::query_scalar::<_, i32>("select inbox.clear_expired()").fetch_one(pool).await;
        match cleared {
            Ok(0) => {}
            Ok(leaves) => info!(leaves, "inbox leaves cleared"),
            // In an hour again.
            Err(error) => debug!(%error, "inbox leaves not cleared"),
        }
        if tokio::time::timeout(EVERY, shutdown.cancelled()).await.is_ok() {
            return;
        }
    }
}

//! The service's database: its pool, waiting for it, and whether it is there.

use std::{future::Future, str::FromStr as _, time::Duration};

use anyhow::Context as _;
use sqlx::{
    ConnectOptions as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::DatabaseArgs;

/// How long a request waits for a connection before it is UNAVAILABLE.
const ACQUIRE: Duration = Duration::from_secs(3);
/// How long a probe of the database may take.
const PROBE: Duration = Duration::from_secs(1);

/// A pool that connects when it is first used.
pub fn pool(args: &DatabaseArgs, application_name: &str) -> anyhow::Result<PgPool> {
    let url = args.url()?;
    // The parser's error quotes the URL, with its password.
    let options = PgConnectOptions::from_str(url.expose())
        .map_err(|_| {
            anyhow::anyhow!("the database URL is none: postgres://role:password@host:port/database")
        })?
        .application_name(application_name)
        .options([("statement_timeout", "10s"), ("idle_in_transaction_session_timeout", "30s")])
        .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(1));
    Ok(PgPoolOptions::new()
        .max_connections(args.database_pool_size)
        .acquire_timeout(ACQUIRE)
        // A ping before each use would cost a round trip on every hot path.
        .test_before_acquire(false)
        .connect_lazy_with(options))
}

/// Waits for the database; refuses one that lacks migrations. False when shutdown came first.
pub async fn wait<F, P>(pool: &PgPool, pending: P, shutdown: &CancellationToken) -> anyhow::Result<bool>
where
    P: Fn() -> F,
    F: Future<Output = anyhow::Result<Vec<String>>>,
{
    let mut waited = false;
    while !is_there(pool).await {
        if !waited {
            warn!("database does not answer; waiting for it");
            waited = true;
        }
        if tokio::time::timeout(Duration::from_millis(250), shutdown.cancelled()).await.is_ok() {
            return Ok(false);
        }
    }
    if waited {
        info!("database answers");
    }
    let missing = pending().await.context("read the applied migrations")?;
    anyhow::ensure!(
        missing.is_empty(),
        "migrations are pending: {}; run the `migrate` subcommand with the owner's database URL",
        missing.join(", ")
    );
    Ok(true)
}

/// Whether the database answers now.
pub async fn is_there(pool: &PgPool) -> bool {
    let probe = sqlx::query("select 1").execute(pool);
    tokio::time::timeout(PROBE, probe).await.is_ok_and(|answer| answer.is_ok())
}

//! The service's database: its pool, waiting for it, and whether it is there.

use std::{future::Future, str::FromStr as _, time::Duration};

use anyhow::Context as _;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use telemetry::{Metrics, catalogue::database as catalogue};
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

/// Shows the pool in `/metrics`, and says to spans which database it is; once a process.
pub fn show(pool: &PgPool, metrics: &Metrics) {
    let options = pool.connect_options();
    telemetry::describe_database(
        options.get_database().unwrap_or_default(),
        options.get_host(),
        options.get_port(),
    );
    metrics.gauge(&catalogue::CONNECTIONS_MAX).set(f64::from(pool.options().get_max_connections()));
    let connections = metrics.gauges(&catalogue::CONNECTIONS);
    let (idle, used) = (connections.with(["idle"]), connections.with(["used"]));
    let pool = pool.clone();
    metrics.on_scrape(move || {
        // The idle ones first: one that is handed out in between is then counted as idle, and none as less than nothing.
        let now_idle = pool.num_idle();
        idle.set_count(now_idle);
        used.set_count((pool.size() as usize).saturating_sub(now_idle));
    });
}

/// Asks the database whether it is there, over a connection of its own: a pool that is taken is load, not absence.
#[derive(Debug)]
pub struct Probe {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
}

impl Probe {
    /// A probe of the pool's database.
    pub fn of(pool: &PgPool) -> Self {
        Self { options: pool.connect_options().as_ref().clone(), connection: None }
    }

    /// Whether the database answers now.
    pub async fn answers(&mut self) -> bool {
        let ask = async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => PgConnection::connect_with(&self.options).await?,
            };
            connection.ping().await?;
            Ok::<_, sqlx::Error>(connection)
        };
        self.connection = tokio::time::timeout(PROBE, ask).await.ok().and_then(Result::ok);
        self.connection.is_some()
    }
}

/// Waits for the database; refuses one that lacks migrations. False when shutdown came first.
pub async fn wait<F, P>(pool: &PgPool, pending: P, shutdown: &CancellationToken) -> anyhow::Result<bool>
where
    P: Fn() -> F,
    F: Future<Output = anyhow::Result<Vec<String>>>,
{
    let (mut probe, mut waited) = (Probe::of(pool), false);
    loop {
        let missing = if probe.answers().await { Some(pending().await) } else { None };
        match missing {
            Some(Ok(missing)) if missing.is_empty() => break,
            Some(Ok(missing)) => anyhow::bail!(
                "migrations are pending: {}; run the `migrate` subcommand with the owner's database URL",
                missing.join(", ")
            ),
            Some(Err(error)) if !is_passing(&error) => {
                return Err(error).context("read the applied migrations");
            }
            _ => {}
        }
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
    Ok(true)
}

/// Whether it may go well the next time: nothing was refused, the answer only did not come.
fn is_passing(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref()).any(|error: &sqlx::Error| match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        // Connections (08), resources (53), operator intervention (57): it starts, stops, or is overloaded.
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| ["08", "53", "57"].iter().any(|class| code.starts_with(class)))
        }
        _ => false,
    })
}

//! What inventory shows of itself. Names and meanings are in [`telemetry::catalogue::inventory`].

use std::time::Duration;

use sqlx::PgPool;
use telemetry::{
    Counter, Gauge,
    catalogue::inventory::{ORPHANS, RESERVATIONS},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{domain::State, store::reservations};

/// How often the database is asked how old the oldest reservation is.
const EVERY: Duration = Duration::from_secs(10);

/// Inventory's metrics, cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    reserved: Counter,
    rejected: Counter,
    released: Counter,
    committed: Counter,
    oldest: Gauge,
}

impl Metrics {
    /// Registers them; once per process.
    pub fn register(metrics: &telemetry::Metrics) -> Self {
        let reservations = metrics.counters(&RESERVATIONS);
        Self {
            reserved: reservations.with(["reserved"]),
            rejected: reservations.with(["rejected"]),
            released: reservations.with(["released"]),
            committed: reservations.with(["committed"]),
            oldest: metrics.gauge(&ORPHANS),
        }
    }

    /// Counts transitions that are committed.
    pub fn came_into(&self, states: impl IntoIterator<Item = State>) {
        for state in states {
            let counter = match state {
                State::Reserved => &self.reserved,
                State::Rejected(_) => &self.rejected,
                State::Released => &self.released,
                State::Committed => &self.committed,
            };
            counter.inc();
        }
    }

    /// Shows how old the oldest open reservation is, now and then, until shutdown.
    pub async fn watch(&self, pool: &PgPool, shutdown: CancellationToken) {
        loop {
            match reservations::oldest_secs(pool).await {
                Ok(seconds) => self.oldest.set(seconds),
                Err(error) => {
                    debug!(%error, "the oldest reservation cannot be read; trying on");
                    self.oldest.set(f64::NAN);
                }
            }
            if tokio::time::timeout(EVERY, shutdown.cancelled()).await.is_ok() {
                return;
            }
        }
    }
}

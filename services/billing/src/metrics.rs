//! What billing shows of itself. Names and meanings are in [`telemetry::catalogue::billing`].

use std::time::Duration;

use sqlx::PgPool;
use telemetry::{
    Counters, Gauge, Gauges,
    catalogue::billing::{OLDEST_OWED, OWED, TRANSITIONS},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    domain::Status,
    store::{self, Owed},
};

/// How often the database is asked what is owed.
const EVERY: Duration = Duration::from_secs(10);
/// In which a payment owes the provider a call.
const OWING: [Status; 2] = [Status::Pending, Status::Refunding];

/// Billing's metrics, cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    transitions: Counters<1>,
    owed: Gauges<1>,
    oldest_owed: Gauge,
}

impl Metrics {
    /// Registers them; once per process.
    pub fn register(metrics: &telemetry::Metrics) -> Self {
        let registered = Self {
            transitions: metrics.counters(&TRANSITIONS),
            owed: metrics.gauges(&OWED),
            oldest_owed: metrics.gauge(&OLDEST_OWED),
        };
        for status in Status::ALL {
            registered.transitions.with([status.as_str()]);
        }
        registered.owe(&[]);
        registered
    }

    /// Counts transitions that are committed.
    pub fn came_into(&self, statuses: &[Status]) {
        for status in statuses {
            self.transitions.with([status.as_str()]).inc();
        }
    }

    /// Shows what is owed to the provider, now and then, until shutdown.
    pub async fn watch(&self, pool: &PgPool, shutdown: CancellationToken) {
        loop {
            match store::owed(pool).await {
                Ok(owed) => self.owe(&owed),
                Err(error) => {
                    debug!(%error, "what is owed to the provider cannot be read; trying on");
                    self.forget();
                }
            }
            if tokio::time::timeout(EVERY, shutdown.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    /// It is not known any more what is owed.
    fn forget(&self) {
        self.owed.clear();
        self.oldest_owed.set(f64::NAN);
    }

    fn owe(&self, owed: &[Owed]) {
        for status in OWING.map(Status::as_str) {
            let count = owed.iter().find(|owed| owed.status == status).map_or(0, |owed| owed.count);
            self.owed.with([status]).set(count as f64);
        }
        self.oldest_owed.set(owed.iter().map(|owed| owed.oldest_secs).fold(0.0, f64::max));
    }
}

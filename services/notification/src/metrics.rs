//! What this service shows of itself. Names and meanings are in [`telemetry::catalogue::notification`].

use std::time::Duration;

use sqlx::PgPool;
use telemetry::{
    Counters, Gauges,
    catalogue::notification::{OLDEST_PENDING, OUTCOMES, PENDING},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    domain::Channel,
    store::{self, Pending},
};

/// How often the database is asked what is pending.
const EVERY: Duration = Duration::from_secs(10);

/// What has become of an attempt.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// The channel has taken it.
    Delivered,
    /// It will be tried again.
    Retried,
    /// It is given up.
    Undelivered,
}

/// The metrics of this service, cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    outcomes: Counters<2>,
    pending: Gauges<1>,
    oldest_pending: Gauges<1>,
}

impl Metrics {
    /// Registers them; once per process.
    pub fn register(metrics: &telemetry::Metrics) -> Self {
        let registered = Self {
            outcomes: metrics.counters(&OUTCOMES),
            pending: metrics.gauges(&PENDING),
            oldest_pending: metrics.gauges(&OLDEST_PENDING),
        };
        for channel in Channel::ALL {
            for outcome in [Outcome::Delivered, Outcome::Retried, Outcome::Undelivered] {
                registered.count(channel, outcome, 0);
            }
        }
        registered.show(&[]);
        registered
    }

    /// Counts outcomes that are committed.
    pub fn count(&self, channel: &str, outcome: Outcome, many: u64) {
        let outcome = match outcome {
            Outcome::Delivered => "delivered",
            Outcome::Retried => "retried",
            Outcome::Undelivered => "undelivered",
        };
        self.outcomes.with([channel, outcome]).inc_by(many);
    }

    /// Shows what is pending, now and then, until shutdown.
    pub async fn watch(&self, pool: &PgPool, shutdown: CancellationToken) {
        loop {
            match store::pending(pool).await {
                Ok(pending) => self.show(&pending),
                Err(error) => {
                    debug!(%error, "what is pending cannot be read; trying on");
                    self.forget();
                }
            }
            if tokio::time::timeout(EVERY, shutdown.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    /// It is not known any more what is pending.
    fn forget(&self) {
        self.pending.clear();
        self.oldest_pending.clear();
    }

    fn show(&self, pending: &[Pending]) {
        for channel in Channel::ALL {
            let (count, oldest) = match pending.iter().find(|pending| pending.channel == channel) {
                Some(pending) => (pending.count, pending.oldest_secs),
                None => (0, 0.0),
            };
            self.pending.with([channel]).set(count as f64);
            self.oldest_pending.with([channel]).set(oldest);
        }
    }
}

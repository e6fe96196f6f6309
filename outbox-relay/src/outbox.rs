//! One outbox: its sessions, one after another, each with the lease and the durable cursor read anew.
//!
//! A session ends with everything that was learned in it: whatever goes wrong, the producer's queue is emptied before
//! the next one begins.

use std::{sync::Arc, time::Duration};

use telemetry::Heartbeat;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    config::Source,
    lease::{self, Watch},
    metrics::OutboxMetrics,
    owner::Owner,
    producer::Producer,
    session::Session,
    state::{Phase, State},
    stop::{Stop, bounded, diagnostic},
};

/// How long a lost session waits before it is opened again: doubles from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often a standby looks at the lease.
const LOOK: Duration = Duration::from_millis(100);

/// An outbox and all that it needs.
pub struct Outbox {
    /// Where it is.
    pub source: Source,
    /// The way into Kafka.
    pub producer: Producer,
    /// Its metrics.
    pub metrics: OutboxMetrics,
    /// Its state.
    pub state: State,
    /// Its sign of life.
    pub heartbeat: Arc<Heartbeat>,
    /// How long a shutdown waits for acknowledgements.
    pub drain: Duration,
    /// How often the ring is looked after.
    pub ring_interval: Duration,
    /// Ends it.
    pub shutdown: CancellationToken,
}

/// What outlives a session.
#[derive(Debug, Default)]
struct Known {
    /// The owner that this process was last: its session is over, so nobody has to be waited for.
    owner: Option<Uuid>,
    /// Since when something waits, as this process knew when it had the lease last. It goes on growing while there is no
    /// session, until another one is found to have the lease.
    waits_since: Option<f64>,
}

/// The producer has failed for good; only a new process helps.
#[derive(Debug, thiserror::Error)]
#[error("the Kafka producer has failed for good: {0}")]
pub struct ProducerFailed(String);

impl Outbox {
    /// Publishes until the shutdown.
    pub async fn run(self) -> Result<(), ProducerFailed> {
        let (mut retry, mut known) = (RETRY.0, Known::default());
        while !self.shutdown.is_cancelled() {
            self.heartbeat.beat();
            let began = Instant::now();
            let ended = self.session(&mut known).await;
            self.metrics.without_session();
            self.metrics.waits_since(known.waits_since);
            if ended.as_ref().is_err_and(Stop::has_lost_session) {
                self.metrics.sessions_lost.inc();
            }
            match ended {
                Ok(()) => break,
                Err(Stop::Producer(reason)) => return Err(ProducerFailed(reason)),
                Err(Stop::Lease(lease::Error::Fenced)) => {
                    known.lease_is_gone(&self.metrics);
                    self.state.set(Phase::Standby, "another relay has the lease");
                }
                Err(stop @ Stop::OtherKafka { .. }) => self.state.set(Phase::Stopped, stop.words()),
                Err(stop) => self.state.set(Phase::Away, stop.words()),
            }
            if began.elapsed() > RETRY.1 {
                retry = RETRY.0;
            }
            let _ = timeout(retry, self.shutdown.cancelled()).await;
            retry = (retry * 2).min(RETRY.1);
        }
        known.lease_is_gone(&self.metrics);
        self.state.set(Phase::Ended, "stopped");
        Ok(())
    }

    async fn session(&self, known: &mut Known) -> Result<(), Stop> {
        let mut session = Session::open(&self.source).await?;
        self.show_topics(&mut session).await?;
        let mut watch = None;
        let (lease, position) = loop {
            if self.shutdown.is_cancelled() {
                return Ok(());
            }
            match bounded(Watch::look(watch, known.owner, &mut session)).await?? {
                Ok(taken) => break taken,
                Err(seen) => watch = Some(seen),
            }
            self.heartbeat.beat();
            self.metrics.up.set(1.0);
            known.lease_is_gone(&self.metrics);
            self.state.set(Phase::Standby, "standing by: the lease is held");
            let _ = timeout(LOOK, self.shutdown.cancelled()).await;
        };
        known.owner = Some(lease.owner);
        self.metrics.up.set(1.0);
        self.metrics.epoch.set(lease.epoch as f64);
        self.state.set(Phase::Publishing, "publishing");
        let owner = Owner::new(self, session, lease, position, known.waits_since);
        owner.publish(&mut known.waits_since).await
    }

    /// Has the metrics of every topic that was published to before there from the start: the first event is an increase.
    async fn show_topics(&self, session: &mut Session) -> Result<(), Stop> {
        let topics = sqlx::query_scalar(include_str!("sql/topics.sql")).fetch_all(&mut session.connection);
        let topics: Option<Vec<String>> =
            diagnostic(bounded(topics).await?, "which topics were published to")?;
        for topic in topics.into_iter().flatten() {
            self.metrics.topic(&topic);
        }
        Ok(())
    }
}

impl Known {
    fn lease_is_gone(&mut self, metrics: &OutboxMetrics) {
        self.waits_since = None;
        metrics.without_lease();
    }
}

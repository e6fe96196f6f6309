//! Calls to the outside world, from intent rows.
//!
//! A handler writes what is to be done as a row, in its batch's transaction. A dispatcher claims such rows, calls
//! outside any transaction with a stable idempotency key, and commits the outcome with its events. A claim is a lease:
//! when its holder dies, another takes the row after it has run out, and asks with the same key.
//!
//! While the other side is down, a circuit breaker stops the calls: nothing is claimed but one intent now and then.

mod breaker;
mod metrics;

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use telemetry::TraceId;
use tokio::{
    sync::Notify,
    task::{self, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

pub use metrics::Metrics;

use breaker::{Breaker, Call, Change};
use metrics::Meter;

/// How long a dispatcher sleeps while nobody wakes it; also how late a retry can be.
const POLL: Duration = Duration::from_millis(200);

/// One kind of work outside PostgreSQL.
pub trait Dispatch: Send + Sync + 'static {
    /// A claimed row.
    type Intent: Send + 'static;
    /// For logs and metrics, such as `payments`.
    const NAME: &'static str;

    /// Which row it is, the same over all its attempts.
    fn id(intent: &Self::Intent) -> Uuid;

    /// In which trace it is called, where that is sampled: the example of how long calls take.
    fn trace(_intent: &Self::Intent) -> Option<TraceId> {
        None
    }

    /// Claims at most `limit` due rows (`FOR UPDATE SKIP LOCKED`), the oldest first, per key in order. `limit` is at
    /// least 1. A row that was put off comes after those that are due already: so a probe is another one each time.
    fn claim(&self, limit: i64) -> impl Future<Output = Result<Vec<Self::Intent>, sqlx::Error>> + Send;

    /// Calls outside any transaction, then commits the outcome. An unknown outcome is no failure: it is written down
    /// as due again, to be asked with the same key.
    fn perform(&self, intent: Self::Intent) -> impl Future<Output = Result<Performed, outbox::Error>> + Send;
}

/// What performing an intent tells about the dependency behind it. Nothing is said about the intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Performed {
    /// The dependency answered, whatever it said.
    Answered,
    /// No answer, or one that says the dependency itself is unwell.
    Unavailable,
    /// It was not asked.
    Unasked,
}

/// Dispatches at most `concurrency` intents at a time until shutdown, then waits for those in flight.
pub fn run<D: Dispatch>(
    dispatch: Arc<D>,
    concurrency: usize,
    wake: Arc<Notify>,
    metrics: &Metrics,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send + use<D> {
    let mut calls = Calls::new(dispatch, metrics.of(D::NAME));
    async move {
        info!(dispatcher = D::NAME, concurrency, "dispatching");
        while !shutdown.is_cancelled() {
            let free = concurrency.saturating_sub(calls.in_flight.len());
            let more = calls.claim(free, Instant::now()).await;
            while let Some(done) = calls.in_flight.try_join_next_with_id() {
                calls.end(done, Instant::now());
            }
            if more && calls.in_flight.len() < concurrency {
                continue;
            }
            let pause = calls.breaker.open_for(Instant::now()).unwrap_or(POLL);
            tokio::select! {
                Some(done) = calls.in_flight.join_next_with_id() => calls.end(done, Instant::now()),
                () = wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => {}
            }
        }
        debug!(dispatcher = D::NAME, in_flight = calls.in_flight.len(), "draining");
        while let Some(done) = calls.in_flight.join_next_with_id().await {
            calls.end(done, Instant::now());
        }
    }
}

type Outcome = Result<Performed, outbox::Error>;

/// The calls of one dispatcher.
struct Calls<D> {
    dispatch: Arc<D>,
    meter: Meter,
    breaker: Breaker,
    in_flight: JoinSet<Outcome>,
    /// Of those in flight; a call that panics returns nothing.
    begun: HashMap<task::Id, Call>,
}

impl<D: Dispatch> Calls<D> {
    fn new(dispatch: Arc<D>, meter: Meter) -> Self {
        let breaker = Breaker::new(|| rand::random_range(0.5..=1.0));
        Self { dispatch, meter, breaker, in_flight: JoinSet::new(), begun: HashMap::new() }
    }

    /// Begins what is due, at most `free`, and only what the breaker admits. False when that was nothing.
    async fn claim(&mut self, free: usize, now: Instant) -> bool {
        let admitted = self.breaker.admits(now, free);
        if admitted == 0 {
            return false;
        }
        let claimed = match self.dispatch.claim(admitted as i64).await {
            Ok(intents) => intents,
            Err(error) => {
                warn!(dispatcher = D::NAME, %error, "no intents could be claimed; trying on");
                return false;
            }
        };
        let any = !claimed.is_empty();
        for intent in claimed {
            let call = self.breaker.begin(D::id(&intent));
            let dispatch = Arc::clone(&self.dispatch);
            let measured = self.meter.begin(D::trace(&intent));
            let task = self.in_flight.spawn(async move {
                let _measured = measured;
                dispatch.perform(intent).await
            });
            self.begun.insert(task.id(), call);
        }
        any
    }

    fn end(&mut self, done: Result<(task::Id, Outcome), JoinError>, now: Instant) {
        let id = done.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let performed = report::<D>(done.map(|(_, outcome)| outcome));
        self.meter.ended(performed);
        let Some(call) = self.begun.remove(&id) else { return };
        match self.breaker.end(now, call, performed) {
            Some(Change::Opened(time)) => {
                self.meter.set_breaker(true);
                warn!(
                    dispatcher = D::NAME,
                    open_ms = time.as_millis(),
                    "other side is down, calls are stopped"
                );
            }
            Some(Change::Reopened(time)) => {
                debug!(dispatcher = D::NAME, open_ms = time.as_millis(), "other side is still down");
            }
            Some(Change::Closed) => {
                self.meter.set_breaker(false);
                info!(dispatcher = D::NAME, "other side answers, calls go on");
            }
            None => {}
        }
    }
}

/// The claim of what failed here runs out by itself, and the intent is performed again.
fn report<D: Dispatch>(done: Result<Outcome, JoinError>) -> Option<Performed> {
    match done {
        Ok(Ok(performed)) => return Some(performed),
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            warn!(dispatcher = D::NAME, %error, cause, "outcome not written; its claim will run out");
        }
        Err(error) => warn!(dispatcher = D::NAME, %error, "dispatch panicked; its claim will run out"),
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;

    /// Does not answer until it is told to, and never runs out of intents.
    #[derive(Default)]
    struct Down {
        panics: AtomicBool,
        answers: AtomicBool,
    }

    impl Dispatch for Down {
        type Intent = Uuid;
        const NAME: &'static str = "down";

        fn id(intent: &Uuid) -> Uuid {
            *intent
        }

        async fn claim(&self, limit: i64) -> Result<Vec<Uuid>, sqlx::Error> {
            Ok((0..limit).map(|_| Uuid::now_v7()).collect())
        }

        async fn perform(&self, _: Uuid) -> Result<Performed, outbox::Error> {
            assert!(!self.panics.load(Relaxed), "as the test wants it");
            Ok(if self.answers.load(Relaxed) { Performed::Answered } else { Performed::Unavailable })
        }
    }

    fn down(metrics: &telemetry::Metrics) -> Calls<Down> {
        Calls::new(Arc::new(Down::default()), Metrics::register(metrics).of(Down::NAME))
    }

    #[track_caller]
    fn shows(metrics: &telemetry::Metrics, sample: &str) {
        let text = metrics.text();
        assert!(text.lines().any(|line| line == sample), "{sample} is not in {text}");
    }

    /// Claims once, and ends what is in flight. Returns how much that was.
    async fn round(calls: &mut Calls<Down>, now: Instant) -> usize {
        calls.claim(8, now).await;
        let mut ended = 0;
        while let Some(done) = calls.in_flight.join_next_with_id().await {
            calls.end(done, now);
            ended += 1;
        }
        ended
    }

    #[tokio::test]
    async fn while_the_other_side_is_down_nothing_is_claimed_but_probes() {
        let metrics = telemetry::Metrics::new();
        let mut calls = down(&metrics);
        let mut now = Instant::now();
        assert_eq!((round(&mut calls, now).await, round(&mut calls, now).await), (8, 0));
        shows(&metrics, r#"dispatch_breaker_open{dispatcher="down"} 1.0"#);
        for _ in 0..8 {
            now += Duration::from_secs(30);
            assert!(calls.claim(8, now).await);
            assert_eq!(round(&mut calls, now).await, 1, "the probe and nothing beside it");
            assert_eq!(round(&mut calls, now).await, 0);
        }
        shows(&metrics, r#"dispatch_calls_total{dispatcher="down",outcome="unavailable"} 16"#);
        shows(&metrics, r#"dispatch_calls_active{dispatcher="down"} 0.0"#);
        shows(&metrics, r#"dispatch_call_duration_seconds_count{dispatcher="down"} 16"#);
        calls.dispatch.answers.store(true, Relaxed);
        assert_eq!(round(&mut calls, now + Duration::from_secs(30)).await, 1);
        shows(&metrics, r#"dispatch_breaker_open{dispatcher="down"} 0.0"#);
        shows(&metrics, r#"dispatch_calls_total{dispatcher="down",outcome="answered"} 1"#);
    }

    #[tokio::test]
    async fn a_probe_that_panics_makes_room_for_the_next() {
        let metrics = telemetry::Metrics::new();
        let mut calls = down(&metrics);
        let now = Instant::now();
        round(&mut calls, now).await;
        let later = now + Duration::from_secs(30);
        calls.dispatch.panics.store(true, Relaxed);
        assert_eq!((round(&mut calls, later).await, round(&mut calls, later).await), (1, 1));
        assert!(calls.begun.is_empty());
        shows(&metrics, r#"dispatch_calls_total{dispatcher="down",outcome="failed"} 2"#);
        shows(&metrics, r#"dispatch_call_duration_seconds_count{dispatcher="down"} 10"#);
    }
}

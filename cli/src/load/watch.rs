//! Watches placed orders through WatchOrder, and holds what the streams told against the database.

mod audit;
mod seen;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use proto::order::v1::{WatchOrderRequest, order_service_client::OrderServiceClient};
use rand::RngExt as _;
use serde::Serialize;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use uuid::Uuid;

use self::seen::{Ending, Seen, Stored, Verdict};
use super::{
    client::{FIRST_BACKOFF, LONGEST_BACKOFF, code},
    report::Latency,
    tally,
};

/// A connection with some thousand streams does not last.
const STREAMS_PER_CONNECTION: usize = 500;
/// How much the streams of a connection may be sent together before it is read: one that is behind stops none.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// How long open streams may take to tell what the database already has.
const GRACE: Duration = Duration::from_secs(10);
/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(50);
/// Most orders that a report names.
const NAMED: usize = 20;

/// What the watchers of a run were told.
#[derive(Clone, Debug, Serialize)]
pub struct Watched {
    /// Orders for which a stream was opened.
    pub orders: u64,
    /// Most streams that were open at once.
    pub most_open: u64,
    /// Transitions that were new to the watcher of their order.
    pub transitions: u64,
    /// Streams that were opened again after `UNAVAILABLE`, from the last version seen on.
    pub resumed: u64,
    /// Transitions that a watcher was told again, or after a later one.
    pub repeated: u64,
    /// Orders that went on after the server had ended their stream at their end, such as one cancelled when shipped.
    pub went_on: u64,
    /// Orders of which a watcher was not told exactly what the database has; unknown when it did not answer.
    pub missed: Option<u64>,
    /// The first of these.
    pub missed_orders: Vec<MissedOrder>,
    /// From the time of an event to its arrival here, by the clocks of service and watcher.
    pub late: Option<Latency>,
}

/// An order whose streams and whose database differ.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MissedOrder {
    /// Which.
    pub order_id: Uuid,
    /// Transitions that were told.
    pub transitions: i32,
    /// The highest version of these.
    pub last_version: i32,
    /// Events in the database.
    pub stored_events: i32,
    /// The highest version of these.
    pub stored_version: i32,
    /// How the stream ended: `open` until the run was over, `ended` by the server, or the code of its failure.
    pub ending: &'static str,
}

/// The streams of a run.
pub(super) struct Watch {
    connections: Vec<OrderServiceClient<Channel>>,
    state: Mutex<State>,
    streams: TaskTracker,
    close: CancellationToken,
}

struct State {
    /// Places for further orders, the lowest last: few streams need few connections.
    free: Vec<usize>,
    open: u64,
    most_open: u64,
    resumed: u64,
    late: Histogram<u64>,
    orders: Vec<Seen>,
}

/// Where a stream is kept.
#[derive(Clone, Copy)]
struct Place {
    connection: usize,
    order: usize,
}

/// Counts a stream from the first answer to its end.
struct Opened<'a>(&'a Watch);

impl Watched {
    /// Whether every watcher was told everything once.
    pub(super) fn passed(&self) -> bool {
        self.missed == Some(0) && self.repeated == 0
    }
}

impl Watch {
    /// At most `max` streams at a time. Connects when first used, within `connect_timeout`.
    pub(super) fn new(target: &str, max: usize, connect_timeout: Duration) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(target.to_owned())
            .with_context(|| format!("{target} is not an address like http://127.0.0.1:50051"))?
            .connect_timeout(connect_timeout)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .tcp_nodelay(true);
        let connect = || OrderServiceClient::new(endpoint.connect_lazy());
        let state = State {
            free: (0..max).rev().collect(),
            open: 0,
            most_open: 0,
            resumed: 0,
            late: tally::histogram()?,
            orders: Vec::new(),
        };
        Ok(Self {
            connections: (0..max.div_ceil(STREAMS_PER_CONNECTION)).map(|_| connect()).collect(),
            state: Mutex::new(state),
            streams: TaskTracker::new(),
            close: CancellationToken::new(),
        })
    }

    /// Watches an order, if there is place for one more. Every stream that fails is told to `failed`.
    pub(super) fn start(self: &Arc<Self>, order_id: Uuid, failed: impl Fn(Code) + Send + Sync + 'static) {
        let (slot, order) = {
            let mut state = self.state();
            let Some(slot) = state.free.pop() else { return };
            state.orders.push(Seen::new(order_id));
            (slot, state.orders.len() - 1)
        };
        let place = Place { connection: slot / STREAMS_PER_CONNECTION, order };
        let watch = Arc::clone(self);
        self.streams.spawn(async move {
            let follow = watch.follow(place, order_id, failed);
            let ending = watch.close.run_until_cancelled(follow).await;
            let mut state = watch.state();
            state.orders[order].ending = ending.unwrap_or(Ending::Open);
            state.free.push(slot);
        });
    }

    /// Waits for the streams until `deadline`, closes them, and compares. What the database has when the deadline has
    /// passed must arrive; what happens afterwards need not.
    pub(super) async fn finish(&self, pool: &PgPool, deadline: Instant) -> Watched {
        self.streams.close();
        let _ = timeout_at(deadline, self.streams.wait()).await;
        let ids: Vec<_> = self.state().orders.iter().map(|seen| seen.order_id).collect();
        let due = audit::read(pool, &ids).await;
        if let Ok(due) = &due {
            self.catch_up(due).await;
        }
        self.close.cancel();
        self.streams.wait().await;
        let verdicts = match due {
            Ok(due) => self.compare(pool, &due).await,
            Err(error) => Err(error),
        };
        let (missed, went_on) = verdicts
            .inspect_err(|error| tracing::warn!(%error, "order database did not tell what was missed"))
            .map_or((None, 0), |(missed, went_on)| (Some(missed), went_on));
        let state = self.state();
        let sum = |count: fn(&Seen) -> u64| state.orders.iter().map(count).sum();
        Watched {
            orders: state.orders.len() as u64,
            most_open: state.most_open,
            transitions: sum(|seen| seen.transitions.unsigned_abs().into()),
            resumed: state.resumed,
            repeated: sum(|seen| seen.repeated.into()),
            went_on,
            missed: missed.as_ref().map(|missed| missed.len() as u64),
            missed_orders: missed.into_iter().flatten().take(NAMED).collect(),
            late: Latency::of(&state.late),
        }
    }

    async fn follow(&self, place: Place, order_id: Uuid, failed: impl Fn(Code)) -> Ending {
        let (mut backoff, mut resumes) = (FIRST_BACKOFF, false);
        loop {
            let before = self.state().orders[place.order].last;
            let Err(status) = self.stream(place, order_id, before, resumes).await else {
                return Ending::Finished;
            };
            let code = code(&status);
            failed(code);
            if code != Code::Unavailable {
                return Ending::Failed(code);
            }
            if self.state().orders[place.order].last > before {
                backoff = FIRST_BACKOFF;
            }
            let pause = backoff.mul_f64(rand::rng().random_range(0.5..1.0));
            sleep(pause).await;
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
            resumes = true;
        }
    }

    /// One stream, until the server ends it.
    async fn stream(
        &self,
        place: Place,
        order_id: Uuid,
        after_version: i32,
        resumes: bool,
    ) -> Result<(), Status> {
        let request = WatchOrderRequest { order_id: order_id.to_string(), after_version };
        let mut connection = self.connections[place.connection].clone();
        let mut transitions = connection.watch_order(request).await?.into_inner();
        let _opened = Opened::new(self);
        self.state().resumed += u64::from(resumes);
        while let Some(message) = transitions.message().await? {
            let now = OffsetDateTime::now_utc();
            let transition = message.transition.ok_or_else(|| Status::internal("no transition"))?;
            let at = transition.event_time.as_ref().and_then(time_of);
            let at = at.ok_or_else(|| Status::internal("no time"))?;
            let mut state = self.state();
            if state.orders[place.order].take(&transition) {
                tally::record(&mut state.late, (now - at).try_into().unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Waits until the open streams have told what is due, but not for long.
    async fn catch_up(&self, due: &[Stored]) {
        let deadline = Instant::now() + GRACE;
        let owes = || self.state().orders.iter().zip(due).any(|(seen, due)| seen.owes(*due));
        while owes() && Instant::now() < deadline {
            sleep(LOOK).await;
        }
    }

    /// Orders that were missed, and the number of those that went on.
    async fn compare(&self, pool: &PgPool, due: &[Stored]) -> anyhow::Result<(Vec<MissedOrder>, u64)> {
        let orders = self.state().orders.clone();
        // A stream may have told what has happened since.
        let ahead = orders.iter().zip(due).enumerate().filter(|(_, (seen, due))| seen.last > due.last);
        let (places, ids): (Vec<_>, Vec<_>) = ahead.map(|(place, (seen, _))| (place, seen.order_id)).unzip();
        let mut now = due.to_vec();
        for (place, stored) in places.into_iter().zip(audit::read(pool, &ids).await?) {
            now[place] = stored;
        }
        let (mut missed, mut went_on) = (Vec::new(), 0);
        for ((seen, due), now) in orders.iter().zip(due).zip(&now) {
            match seen.verdict(*due, *now) {
                Verdict::Whole => {}
                Verdict::WentOn => went_on += 1,
                Verdict::Missed => missed.push(MissedOrder {
                    order_id: seen.order_id,
                    transitions: seen.transitions,
                    last_version: seen.last,
                    stored_events: now.events,
                    stored_version: now.last,
                    ending: seen.ending.name(),
                }),
            }
        }
        Ok((missed, went_on))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Opened<'a> {
    fn new(watch: &'a Watch) -> Self {
        let mut state = watch.state();
        state.open += 1;
        state.most_open = state.most_open.max(state.open);
        Self(watch)
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.0.state().open -= 1;
    }
}

fn time_of(timestamp: &prost_types::Timestamp) -> Option<OffsetDateTime> {
    let seconds = OffsetDateTime::from_unix_timestamp(timestamp.seconds).ok()?;
    seconds.checked_add(time::Duration::nanoseconds(timestamp.nanos.into()))
}

#[cfg(test)]
mod tests;

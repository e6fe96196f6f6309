//! Which orders are watched, what is known of each, and which are to be read next.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use service::status::{Reason, status};
use tokio::sync::{Notify, futures::Notified, watch};
use tonic::Status;
use tracing::error;
use uuid::Uuid;

use crate::{
    domain::{self, Event, Order},
    store::StoredEvent,
};

/// An event, with the order after it but for its items.
pub type Transition = (Order, StoredEvent);

/// How many orders are read at a time.
const BATCH: usize = 500;

/// The watched orders of a process.
#[derive(Default)]
pub struct Registry {
    watched: Mutex<Watched>,
    woken: Notify,
}

#[derive(Default)]
struct Watched {
    orders: HashMap<Uuid, Watch>,
    /// To be read as soon as possible.
    woken: HashSet<Uuid>,
    /// To be read when nothing is woken.
    stale: Vec<Uuid>,
    /// Batches so far.
    batches: u64,
}

/// A watched order.
struct Watch {
    history: watch::Sender<History>,
    streams: usize,
    /// The last batch that had begun when the latest of its streams came.
    since: u64,
    /// When it was last asked for.
    asked: Option<Instant>,
}

/// What is known of an order. An order has few events, and its items are not kept, so that this is small.
#[derive(Default)]
struct History {
    /// The batch that has read it last; 0 before the first.
    batch: u64,
    /// Version 1 comes first, and there is no gap.
    transitions: Vec<Transition>,
    /// Why it could not be read.
    failure: Option<Status>,
}

/// Orders that are read together.
pub struct Batch {
    number: u64,
    /// Which.
    pub orders: Vec<Uuid>,
    /// The last version that is known of each.
    pub known: Vec<i32>,
}

/// One stream's hold on an order.
pub struct Subscription {
    registry: Arc<Registry>,
    order_id: Uuid,
    history: watch::Receiver<History>,
    /// What was read by a later batch than this was read after the stream began.
    since: u64,
}

/// What a stream has to tell.
pub enum Next {
    /// The transition after the version.
    Transition(Box<Transition>),
    /// Nothing more is expected.
    End,
    /// It cannot go on.
    Failure(Status),
    /// It has not happened yet.
    Later,
}

impl Registry {
    /// Watches an order, and has it read.
    pub fn subscribe(self: &Arc<Self>, order_id: Uuid) -> Subscription {
        let mut watched = self.lock();
        let since = watched.batches;
        let watch = watched.orders.entry(order_id).or_insert_with(|| Watch {
            history: watch::Sender::new(History::default()),
            streams: 0,
            since,
            asked: None,
        });
        watch.streams += 1;
        watch.since = since;
        let history = watch.history.subscribe();
        watched.woken.insert(order_id);
        drop(watched);
        self.woken.notify_one();
        Subscription { registry: Arc::clone(self), order_id, history, since }
    }

    /// Has an order read if it is watched: something has happened to it.
    pub fn wake(&self, order_id: Uuid) {
        let mut watched = self.lock();
        if watched.orders.contains_key(&order_id) && watched.woken.insert(order_id) {
            drop(watched);
            self.woken.notify_one();
        }
    }

    /// Until an order is to be read.
    pub fn woken(&self) -> Notified<'_> {
        self.woken.notified()
    }

    /// Has every order read again that was not asked for within this time.
    pub fn refresh(&self, age: Duration) {
        let mut watched = self.lock();
        if watched.stale.is_empty() {
            let is_stale = |watch: &Watch| watch.asked.is_none_or(|asked| asked.elapsed() >= age);
            let stale = watched.orders.iter().filter(|(_, watch)| is_stale(watch));
            watched.stale = stale.map(|(order_id, _)| *order_id).collect();
        }
    }

    /// What is to be read next.
    pub fn begin(&self) -> Option<Batch> {
        let mut watched = self.lock();
        let Watched { orders, woken, stale, batches } = &mut *watched;
        let mut batch = Batch { number: *batches + 1, orders: Vec::new(), known: Vec::new() };
        let now = Instant::now();
        while batch.orders.is_empty() && !(woken.is_empty() && stale.is_empty()) {
            let mut next: Vec<Uuid> = woken.extract_if(|_| true).take(BATCH).collect();
            let room = BATCH - next.len();
            next.extend(stale.drain(stale.len().saturating_sub(room)..));
            for order_id in next {
                // Its streams may have gone meanwhile. It may be woken and stale; once is enough.
                if let Some(watch) = orders.get_mut(&order_id)
                    && watch.asked != Some(now)
                {
                    watch.asked = Some(now);
                    batch.orders.push(order_id);
                    batch.known.push(watch.history.borrow().version());
                }
            }
        }
        if batch.orders.is_empty() {
            return None;
        }
        *batches += 1;
        Some(batch)
    }

    /// Tells the streams what a batch has found: the new events of each of its orders.
    pub fn publish(&self, batch: &Batch, mut found: HashMap<Uuid, Vec<sqlx::Result<StoredEvent>>>) {
        let watched = self.lock();
        for (order_id, known) in batch.orders.iter().zip(&batch.known) {
            let events = found.remove(order_id).unwrap_or_default();
            let Some(watch) = watched.orders.get(order_id) else { continue };
            watch.history.send_if_modified(|history| {
                // Where the order was let go and is watched anew, another batch reads it from its beginning.
                if history.version() != *known {
                    return false;
                }
                let is_awaited = history.batch <= watch.since;
                history.take(*order_id, batch.number, events) || is_awaited
            });
        }
    }

    /// Has a batch that could not be read read again. Streams that have not begun are refused.
    pub fn again(&self, batch: Batch, failure: &Status) {
        let mut watched = self.lock();
        for order_id in batch.orders {
            if let Some(watch) = watched.orders.get(&order_id) {
                watch.history.send_if_modified(|history| history.batch == 0 && history.fail(failure));
                watched.woken.insert(order_id);
            }
        }
    }

    /// Ends every stream.
    pub fn fail(&self, failure: &Status) {
        for watch in self.lock().orders.values() {
            watch.history.send_if_modified(|history| history.fail(failure));
        }
    }

    fn leave(&self, order_id: Uuid) {
        if let Entry::Occupied(mut watch) = self.lock().orders.entry(order_id) {
            watch.get_mut().streams -= 1;
            if watch.get().streams == 0 {
                watch.remove();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    fn version(&self) -> i32 {
        self.transitions.last().map_or(0, |(order, _)| order.version)
    }

    /// Goes on with new events; true where there are any.
    fn take(&mut self, order_id: Uuid, batch: u64, events: Vec<sqlx::Result<StoredEvent>>) -> bool {
        let is_news = !events.is_empty();
        self.batch = batch;
        self.failure = None;
        for event in events {
            if let Err(error) =
                event.map_err(anyhow::Error::from).and_then(|event| self.push(order_id, event))
            {
                error!(%order_id, error = format!("{error:#}"), "the history of an order cannot be read");
                return self.fail(&status(Reason::Internal, "a fault of the service; its log has the cause"));
            }
        }
        is_news
    }

    fn push(&mut self, order_id: Uuid, stored: StoredEvent) -> anyhow::Result<()> {
        let before = self.transitions.last().map(|(order, _)| order.clone());
        let begins = matches!(stored.event, Event::OrderPlaced(_));
        let follows = stored.version == self.version() + 1 && begins == before.is_none();
        anyhow::ensure!(follows, "version {} does not follow {}", stored.version, self.version());
        let order = domain::evolve(order_id, before, &stored.event);
        self.transitions.push((order, stored));
        Ok(())
    }

    fn fail(&mut self, failure: &Status) -> bool {
        self.failure = Some(failure.clone());
        true
    }
}

impl Subscription {
    /// Waits until the order has been read since this began; false where there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn read(&mut self) -> Result<bool, Status> {
        loop {
            {
                let history = self.history.borrow_and_update();
                if let Some(failure) = &history.failure {
                    return Err(failure.clone());
                }
                if history.batch > self.since {
                    return Ok(!history.transitions.is_empty());
                }
            }
            self.changed().await;
        }
    }

    /// What comes after a version.
    pub fn after(&mut self, version: usize) -> Next {
        let history = self.history.borrow_and_update();
        if let Some(transition) = history.transitions.get(version) {
            return Next::Transition(Box::new(transition.clone()));
        }
        match (&history.failure, history.transitions.last()) {
            (_, Some((order, _))) if order.is_at_its_end() => Next::End,
            (Some(failure), _) => Next::Failure(failure.clone()),
            _ => Next::Later,
        }
    }

    /// Waits until there may be something new.
    pub async fn changed(&mut self) {
        // The sender is kept as long as anybody subscribes.
        let _ = self.history.changed().await;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.registry.leave(self.order_id);
    }
}

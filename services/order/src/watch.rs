//! WatchOrder: every transition of an order, once and in order, from the truth, whichever replica makes it.
//!
//! One reader in each process reads `order_events` for all its streams together: the orders that the tailer of
//! `order-status` has named, as soon as the read before is done, and every watched order again at least each second.
//! So Kafka makes it quick, and nothing depends on Kafka. What was read of an order is kept once, as long as it is
//! watched, and every stream has its own place in it: a stream that does not read holds nobody up.

mod reader;
mod registry;
mod tailer;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use consumer::KafkaArgs;
use futures_util::stream::unfold;
use service::status::{Reason, status};
use sqlx::PgPool;
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

pub use self::registry::Transition;
use self::registry::{Next, Registry, Subscription};
use crate::error::Error;

/// The streams of a process; clones share them.
#[derive(Clone)]
pub struct Watchers {
    pool: PgPool,
    registry: Arc<Registry>,
    free: Arc<Semaphore>,
    max: usize,
    shutdown: CancellationToken,
    started: Arc<AtomicBool>,
}

/// One stream.
struct Watcher {
    subscription: Subscription,
    /// The version that was sent last.
    sent: usize,
    failed: bool,
    shutdown: CancellationToken,
    _admitted: OwnedSemaphorePermit,
}

impl Watchers {
    /// At most `max` streams, which end at shutdown. They tell nothing before [`Watchers::start`].
    pub fn new(pool: PgPool, max: usize, shutdown: CancellationToken) -> Self {
        let free = Arc::new(Semaphore::new(max));
        Self { pool, registry: Arc::default(), free, max, shutdown, started: Arc::default() }
    }

    /// Starts what the streams are fed by, until shutdown. A second call does nothing.
    pub fn start(&self, kafka: KafkaArgs) {
        if self.started.swap(true, Ordering::Relaxed) {
            return;
        }
        let (pool, registry, shutdown) =
            (self.pool.clone(), Arc::clone(&self.registry), self.shutdown.clone());
        tokio::spawn(async move { shutdown.run_until_cancelled(reader::read(&pool, &registry)).await });
        let (registry, shutdown) = (Arc::clone(&self.registry), self.shutdown.clone());
        tokio::spawn(async move { shutdown.run_until_cancelled(tailer::tail(&kafka, &registry)).await });
    }

    /// The transitions after a version, until the order has reached its end, the reader goes, or shutdown.
    ///
    /// # Errors
    /// When there is no such order, it cannot be read, or this process has as many streams as it may have.
    pub async fn watch(
        &self,
        order_id: Uuid,
        after_version: i32,
    ) -> Result<impl Stream<Item = Result<Transition, Status>> + Send + use<>, Status> {
        let admitted = Arc::clone(&self.free).try_acquire_owned().map_err(|_| self.is_full())?;
        let mut subscription = self.registry.subscribe(order_id);
        let read = select! {
            read = subscription.read() => read?,
            () = self.shutdown.cancelled() => return Err(going()),
        };
        if !read {
            return Err(Error::NotFound(order_id).into());
        }
        let watcher = Watcher {
            subscription,
            sent: usize::try_from(after_version).unwrap_or(0),
            failed: false,
            shutdown: self.shutdown.clone(),
            _admitted: admitted,
        };
        let told = |mut watcher: Watcher| async move { Some((watcher.next().await?, watcher)) };
        Ok(unfold(watcher, told))
    }

    fn is_full(&self) -> Status {
        let max = self.max;
        Status::resource_exhausted(format!(
            "this process has {max} streams, as many as it may have (--max-watchers); watch through another replica, \
             or ask again when streams have ended"
        ))
    }
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<Transition, Status>> {
        while !self.failed && !self.shutdown.is_cancelled() {
            match self.subscription.after(self.sent) {
                Next::Transition(transition) => {
                    self.sent += 1;
                    return Some(Ok(*transition));
                }
                Next::End => return None,
                Next::Failure(failure) => {
                    self.failed = true;
                    return Some(Err(failure));
                }
                Next::Later => select! {
                    () = self.subscription.changed() => {}
                    () = self.shutdown.cancelled() => {}
                },
            }
        }
        None
    }
}

fn going() -> Status {
    status(Reason::DependencyUnavailable, "the service shuts down; send the same request again")
}

//! WatchOrder: every transition of an order, once and in order, from the truth, whichever replica makes it.
//!
//! One reader in each process reads `order_events` for all its streams together: the orders that the tailer of
//! `order-status` has named, as soon as the read before is done, and every watched order again at least each second.
//! So Kafka makes it quick, and nothing depends on Kafka. What was read of an order is kept once, as long as it is
//! watched, and every stream has its own place in it: a stream that does not read holds nobody up.

mod reader;
mod registry;
mod tailer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use consumer::KafkaArgs;
use futures_util::stream::unfold;
use service::status::{Reason, status};
use sqlx::PgPool;
use telemetry::{Counted, Gauge};
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::error;
use uuid::Uuid;

pub use self::registry::Transition;
use self::registry::{Next, Registry, Subscription};
use crate::error::Error;

/// Pause before a task that has panicked begins anew.
const PAUSE: Duration = Duration::from_secs(1);

/// The streams of a process; clones share them.
#[derive(Clone)]
pub struct Watchers {
    pool: PgPool,
    registry: Arc<Registry>,
    free: Arc<Semaphore>,
    max: usize,
    open: Gauge,
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
    _counted: Counted,
}

impl Watchers {
    /// At most `max` streams, shown as `open`, which end at shutdown. They tell nothing before [`Watchers::start`].
    pub fn new(pool: PgPool, max: usize, open: Gauge, shutdown: CancellationToken) -> Self {
        let free = Arc::new(Semaphore::new(max));
        Self { pool, registry: Arc::default(), free, max, open, shutdown, started: Arc::default() }
    }

    /// Starts what the streams are fed by, until shutdown. A second call does nothing.
    pub fn start(&self, kafka: KafkaArgs) {
        if self.started.swap(true, Ordering::Relaxed) {
            return;
        }
        let (pool, registry) = (self.pool.clone(), Arc::clone(&self.registry));
        let read = move || {
            let (pool, registry) = (pool.clone(), Arc::clone(&registry));
            async move { reader::read(&pool, &registry).await }
        };
        let registry = Arc::clone(&self.registry);
        // What it had begun to read is lost on the streams; a stream that begins anew misses nothing.
        let end_streams = move || registry.fail(&fallen());
        tokio::spawn(supervise("watch-reader", self.shutdown.clone(), read, end_streams));
        let registry = Arc::clone(&self.registry);
        let tail = move || {
            let (kafka, registry) = (kafka.clone(), Arc::clone(&registry));
            async move { tailer::tail(&kafka, &registry).await }
        };
        // Without it, watched orders are found by looking.
        tokio::spawn(supervise("watch-tailer", self.shutdown.clone(), tail, || {}));
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
            _counted: self.open.count(),
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
        while !self.failed {
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
                // Not the order's end: whoever watches goes on at another replica.
                Next::Later if self.shutdown.is_cancelled() => {
                    self.failed = true;
                    return Some(Err(going()));
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

/// Runs a task until shutdown. When it panics, the log and `fallen` are told, and it begins anew after a pause.
async fn supervise<F>(
    task: &'static str,
    shutdown: CancellationToken,
    begin: impl Fn() -> F,
    fallen: impl Fn(),
) where
    F: Future<Output = ()> + Send + 'static,
{
    while !shutdown.is_cancelled() {
        let running = tokio::spawn(shutdown.clone().run_until_cancelled_owned(begin()));
        if let Err(error) = running.await {
            error!(task, %error, "a task has panicked; it begins anew");
            fallen();
        }
        let _ = shutdown.run_until_cancelled(sleep(PAUSE)).await;
    }
}

fn fallen() -> Status {
    status(Reason::DependencyUnavailable, "the stream was interrupted; watch again from the last version")
}

fn going() -> Status {
    status(Reason::DependencyUnavailable, "the service shuts down; watch again from the last version")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::time::timeout;
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_ends_its_streams_and_begins_anew() -> anyhow::Result<()> {
        let (registry, shutdown) = (Arc::new(Registry::default()), CancellationToken::new());
        let mut subscription = registry.subscribe(Uuid::now_v7());
        let (begun, end) = (Arc::new(AtomicUsize::new(0)), shutdown.clone());
        let counted = Arc::clone(&begun);
        let task = move || {
            let (times, end) = (counted.fetch_add(1, Ordering::Relaxed), end.clone());
            async move {
                assert!(times > 0, "the first falls");
                end.cancel();
            }
        };
        let supervised = supervise("test", shutdown, task, || registry.fail(&fallen()));
        timeout(Duration::from_secs(30), supervised).await?;
        assert_eq!(begun.load(Ordering::Relaxed), 2);
        let Next::Failure(failure) = subscription.after(0) else { anyhow::bail!("the stream goes on") };
        assert_eq!(failure.code(), Code::Unavailable);
        Ok(())
    }
}

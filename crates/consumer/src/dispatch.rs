//! Calls to the outside world, from intent rows.
//!
//! A handler writes what is to be done as a row, in its batch's transaction. A dispatcher claims such rows, calls
//! outside any transaction with a stable idempotency key, and commits the outcome with its events. A claim is a lease:
//! when its holder dies, another takes the row after it has run out, and asks with the same key.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How long a dispatcher sleeps while nobody wakes it; also how late a retry can be.
const POLL: Duration = Duration::from_millis(200);

/// One kind of work outside PostgreSQL.
pub trait Dispatch: Send + Sync + 'static {
    /// A claimed row.
    type Intent: Send + 'static;
    /// For logs, such as `payments`.
    const NAME: &'static str;

    /// Claims at most `limit` due rows (`FOR UPDATE SKIP LOCKED`), the oldest first, per key in order.
    fn claim(&self, limit: i64) -> impl Future<Output = Result<Vec<Self::Intent>, sqlx::Error>> + Send;

    /// Calls outside any transaction, then commits the outcome. An unknown outcome is no failure: it is written down
    /// as due again, to be asked with the same key.
    fn perform(&self, intent: Self::Intent) -> impl Future<Output = Result<(), outbox::Error>> + Send;
}

/// Dispatches at most `concurrency` intents at a time until shutdown, then waits for those in flight.
pub async fn run<D: Dispatch>(
    dispatch: Arc<D>,
    concurrency: usize,
    wake: Arc<Notify>,
    shutdown: CancellationToken,
) {
    info!(dispatcher = D::NAME, concurrency, "dispatching");
    let mut in_flight = JoinSet::new();
    while !shutdown.is_cancelled() {
        let free = concurrency.saturating_sub(in_flight.len());
        let claimed = match dispatch.claim(free as i64).await {
            Ok(intents) => intents,
            Err(error) => {
                warn!(dispatcher = D::NAME, %error, "no intents could be claimed; trying on");
                Vec::new()
            }
        };
        let more = !claimed.is_empty();
        for intent in claimed {
            let dispatch = Arc::clone(&dispatch);
            in_flight.spawn(async move { dispatch.perform(intent).await });
        }
        while let Some(done) = in_flight.try_join_next() {
            report::<D>(done);
        }
        if more && in_flight.len() < concurrency {
            continue;
        }
        tokio::select! {
            Some(done) = in_flight.join_next() => report::<D>(done),
            () = wake.notified() => {}
            () = tokio::time::sleep(POLL) => {}
            () = shutdown.cancelled() => {}
        }
    }
    debug!(dispatcher = D::NAME, in_flight = in_flight.len(), "draining");
    while let Some(done) = in_flight.join_next().await {
        report::<D>(done);
    }
}

/// The claim of what failed here runs out by itself, and the intent is performed again.
fn report<D: Dispatch>(done: Result<Result<(), outbox::Error>, tokio::task::JoinError>) {
    match done {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            warn!(dispatcher = D::NAME, %error, cause, "outcome not written; its claim will run out");
        }
        Err(error) => warn!(dispatcher = D::NAME, %error, "dispatch panicked; its claim will run out"),
    }
}

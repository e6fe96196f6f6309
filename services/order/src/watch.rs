//! WatchOrder: every transition of an order, from the truth.
//!
//! A watcher reads `order_events` again every [`REREAD`] and sends what is new, ordered by version, until the order has
//! reached its end. It therefore misses nothing, whichever replica changes the order.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{app::Orders, domain::Order, error::Error, store::StoredEvent};

/// How late a transition is told at the most.
const REREAD: Duration = Duration::from_millis(200);
/// Transitions that wait for a slow reader; an order has few.
const BUFFER: usize = 16;

/// The streams of a process; clones share them.
#[derive(Clone)]
pub struct Watchers {
    orders: Orders,
    shutdown: CancellationToken,
}

impl Watchers {
    /// Watchers that end at shutdown.
    pub fn new(orders: Orders, shutdown: CancellationToken) -> Self {
        Self { orders, shutdown }
    }

    /// The transitions after a version, until the order has reached its end, the reader goes, or shutdown.
    pub async fn watch(
        &self,
        order_id: Uuid,
        after_version: i32,
    ) -> Result<ReceiverStream<Result<(Order, StoredEvent), Error>>, Error> {
        // Asked once before the stream begins, so that an unknown order is an error of the call.
        let first = self.orders.transitions(order_id).await?;
        let (sender, receiver) = mpsc::channel(BUFFER);
        let watchers = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = watchers.shutdown.cancelled() => {}
                () = sender.closed() => {}
                () = watchers.follow(order_id, after_version, first, &sender) => {}
            }
        });
        Ok(ReceiverStream::new(receiver))
    }

    async fn follow(
        &self,
        order_id: Uuid,
        mut sent: i32,
        mut history: Vec<(Order, StoredEvent)>,
        sender: &mpsc::Sender<Result<(Order, StoredEvent), Error>>,
    ) {
        loop {
            let ended = history.last().is_some_and(|(order, _)| order.status.is_final());
            for transition in history {
                if transition.1.version > sent {
                    sent = transition.1.version;
                    if sender.send(Ok(transition)).await.is_err() {
                        return;
                    }
                }
            }
            if ended {
                return;
            }
            tokio::time::sleep(REREAD).await;
            history = match self.orders.transitions(order_id).await {
                Ok(history) => history,
                Err(error) => {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            };
        }
    }
}

//! Places one order, and asks again with the same request id until the answer is known.

use std::{
    error::Error as _,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use proto::order::v1::{CreateOrderRequest, order_service_client::OrderServiceClient};
use rand::RngExt as _;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use uuid::Uuid;

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// Acknowledged: the platform has promised not to lose it.
    Accepted(Uuid),
    /// Refused for good with this code.
    Rejected(Code),
    /// Unknown: the last answer within the time was another "try again".
    GaveUp,
}

/// A few connections to the order service, used in turn: one HTTP/2 connection has a limit of streams.
#[derive(Debug)]
pub(super) struct Client {
    connections: Vec<OrderServiceClient<Channel>>,
    next: AtomicUsize,
    deadline: Duration,
    give_up_after: Duration,
}

impl Client {
    /// Connects when first used. `deadline` is for one call, `give_up_after` for all calls of one order.
    pub(super) fn new(
        target: &str,
        connections: usize,
        deadline: Duration,
        give_up_after: Duration,
    ) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(target.to_owned())
            .with_context(|| format!("{target} is not an address like http://127.0.0.1:50051"))?
            .connect_timeout(deadline)
            .tcp_nodelay(true);
        let connect = || OrderServiceClient::new(endpoint.connect_lazy());
        let connections = (0..connections).map(|_| connect()).collect();
        Ok(Self { connections, next: AtomicUsize::new(0), deadline, give_up_after })
    }

    /// Places one order. Every failed call is told to `failed`, also those that are repeated.
    pub(super) async fn place(&self, request: &CreateOrderRequest, mut failed: impl FnMut(Code)) -> Placed {
        let started = Instant::now();
        let mut backoff = FIRST_BACKOFF;
        loop {
            let code = match self.call(request.clone()).await {
                Ok(order_id) => return Placed::Accepted(order_id),
                Err(code) => code,
            };
            failed(code);
            if !matches!(code, Code::Unavailable | Code::DeadlineExceeded) {
                return Placed::Rejected(code);
            }
            let pause = backoff.mul_f64(rand::rng().random_range(0.5..1.0));
            if started.elapsed() + pause >= self.give_up_after {
                return Placed::GaveUp;
            }
            tokio::time::sleep(pause).await;
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
    }

    /// The deadline is kept here and not sent as `grpc-timeout`: tonic's server answers an expired one with CANCELLED,
    /// which would look like a refusal. Dropping the call resets its stream, so the server stops as well.
    async fn call(&self, request: CreateOrderRequest) -> Result<Uuid, Code> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let mut connection = self.connections[turn].clone();
        let response = tokio::time::timeout(self.deadline, connection.create_order(request))
            .await
            .map_err(|_| Code::DeadlineExceeded)?
            .map_err(|status| code(&status))?;
        let order = response.into_inner().order.ok_or(Code::Internal)?;
        Uuid::try_parse(&order.order_id).map_err(|_| Code::Internal)
    }
}

/// A status with a source was made here because the connection broke; tonic calls most of those UNKNOWN or CANCELLED.
/// The outcome of such a call is as unknown as after UNAVAILABLE.
fn code(status: &Status) -> Code {
    if status.source().is_some() { Code::Unavailable } else { status.code() }
}

#[cfg(test)]
mod tests;

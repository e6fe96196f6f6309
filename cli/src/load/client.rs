//! Places one order, or cancels one, and asks again with the same ids until the answer is known.

use std::{
    error::Error as _,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use proto::order::v1::{CancelOrderRequest, CreateOrderRequest, order_service_client::OrderServiceClient};
use rand::RngExt as _;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use uuid::Uuid;

pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(50);
pub(super) const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended<T> {
    /// Acknowledged: the platform has promised to do it.
    Accepted(T),
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
    /// Connects when first used. `deadline` is for one call, `give_up_after` for all calls that ask the same.
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

    /// Places one order, and returns its id. Every failed call is told to `failed`, also those that are repeated.
    pub(super) async fn place(&self, request: &CreateOrderRequest, failed: impl FnMut(Code)) -> Ended<Uuid> {
        let place = |mut connection: OrderServiceClient<Channel>| {
            let request = request.clone();
            async move {
                let answer = connection.create_order(request).await?.into_inner();
                let order = answer.order.ok_or_else(|| Status::internal("no order"))?;
                Uuid::try_parse(&order.order_id).map_err(|_| Status::internal("no id"))
            }
        };
        self.repeat(failed, place).await
    }

    /// Cancels one order; it may be too late for that, which is `FAILED_PRECONDITION`.
    pub(super) async fn cancel(&self, order_id: Uuid, failed: impl FnMut(Code)) -> Ended<()> {
        let cancel = |mut connection: OrderServiceClient<Channel>| async move {
            let request = CancelOrderRequest { order_id: order_id.to_string() };
            connection.cancel_order(request).await.map(drop)
        };
        self.repeat(failed, cancel).await
    }

    async fn repeat<T, F>(
        &self,
        mut failed: impl FnMut(Code),
        call: impl Fn(OrderServiceClient<Channel>) -> F,
    ) -> Ended<T>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let started = Instant::now();
        let mut backoff = FIRST_BACKOFF;
        loop {
            let code = match self.once(&call).await {
                Ok(answer) => return Ended::Accepted(answer),
                Err(code) => code,
            };
            failed(code);
            if !matches!(code, Code::Unavailable | Code::DeadlineExceeded) {
                return Ended::Rejected(code);
            }
            let pause = backoff.mul_f64(rand::rng().random_range(0.5..1.0));
            if started.elapsed() + pause >= self.give_up_after {
                return Ended::GaveUp;
            }
            tokio::time::sleep(pause).await;
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
    }

    /// The deadline is kept here and not sent as `grpc-timeout`: tonic's server answers an expired one with CANCELLED,
    /// which would look like a refusal. Dropping the call resets its stream, so the server stops as well.
    async fn once<T, F>(&self, call: &impl Fn(OrderServiceClient<Channel>) -> F) -> Result<T, Code>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        tokio::time::timeout(self.deadline, call(self.connections[turn].clone()))
            .await
            .map_err(|_| Code::DeadlineExceeded)?
            .map_err(|status| code(&status))
    }
}

/// A status with a source was made here because the connection broke; tonic calls most of those UNKNOWN or CANCELLED.
/// The outcome of such a call is as unknown as after UNAVAILABLE.
pub(super) fn code(status: &Status) -> Code {
    if status.source().is_some() { Code::Unavailable } else { status.code() }
}

#[cfg(test)]
mod tests;

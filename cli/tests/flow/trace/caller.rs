//! Callers who are in a trace already.

use proto::order::v1::{CreateOrderRequest, Order};
use testkit::Platform;
use tonic::Request;
use uuid::Uuid;

use crate::client::orders;

/// A caller's own span.
pub struct Caller {
    pub trace_id: String,
    pub span_id: String,
    flags: u8,
}

impl Caller {
    /// In a trace that is recorded.
    pub fn sampled() -> Self {
        let (trace_id, span_id) = (Uuid::new_v4().simple().to_string(), Uuid::new_v4().simple().to_string());
        Self { trace_id, span_id: span_id[..16].to_owned(), flags: 1 }
    }

    /// In one that is not.
    pub fn unsampled() -> Self {
        Self { flags: 0, ..Self::sampled() }
    }

    /// Places an order.
    pub async fn place(&self, platform: &Platform, request: CreateOrderRequest) -> anyhow::Result<Order> {
        let traceparent = format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags);
        place(platform, request, Some(&traceparent)).await
    }
}

/// Places an order with this trace context.
pub async fn place(
    platform: &Platform,
    request: CreateOrderRequest,
    traceparent: Option<&str>,
) -> anyhow::Result<Order> {
    let mut request = Request::new(request);
    if let Some(traceparent) = traceparent {
        request.metadata_mut().insert("traceparent", traceparent.parse()?);
    }
    let placed = orders(platform).await?.create_order(request).await?.into_inner();
    placed.order.ok_or_else(|| anyhow::anyhow!("the answer has no order"))
}

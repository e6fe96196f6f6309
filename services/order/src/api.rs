//! gRPC: protobuf to domain and back, with every violation named.

use std::collections::HashMap;

use prost::Message as _;
use proto::order::v1::{self as pb, order_service_server::OrderService};
use service::{
    page,
    status::{Reason as Why, Violations, from_outbox, from_sql, status, status_with},
};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};
use tracing::{Span, field::display};
use uuid::Uuid;

use crate::{
    app::Orders,
    domain::{
        self, Draft, DraftItem, Money, Order, PaymentToken, Reason, Refused, Resolution, Shipment,
        Unavailable,
    },
    error::Error,
    messages::{item_to_proto, money_to_proto},
    store::{Filter, Page, Request as RepeatableRequest, StoredEvent, StoredOrder},
    watch::Watchers,
};

/// What an empty payment token means.
const DEFAULT_TOKEN: &str = "tok_ok";
/// The longest reason of an operator, in characters.
const MAX_REASON: usize = 500;

/// The server side of `orderly.order.v1.OrderService`.
pub struct Api {
    orders: Orders,
    watchers: Watchers,
}

impl Api {
    /// The API of these use cases.
    pub fn new(orders: Orders, watchers: Watchers) -> Self {
        Self { orders, watchers }
    }
}

type Transitions = std::pin::Pin<Box<dyn Stream<Item = Result<pb::WatchOrderResponse, Status>> + Send>>;

#[tonic::async_trait]
impl OrderService for Api {
    type WatchOrderStream = Transitions;

    async fn create_order(
        &self,
        request: Request<pb::CreateOrderRequest>,
    ) -> Result<Response<pb::CreateOrderResponse>, Status> {
        let mut request = request.into_inner();
        if request.payment_token.is_empty() {
            request.payment_token = DEFAULT_TOKEN.to_owned();
        }
        let token_hash = hex(&Sha256::digest(&request.payment_token));
        let mut violations = Violations::default();
        let repeatable = (!request.request_id.is_empty()).then(|| RepeatableRequest {
            id: violations.uuid("request_id", &request.request_id),
            hash: request_hash(&request, &token_hash),
        });
        let draft = draft(request);
        for violation in domain::check(&draft) {
            violations.add(&violation.field, violation.description);
        }
        violations.into_result()?;
        let stored = self.orders.create(draft, token_hash, repeatable).await?;
        Ok(Response::new(pb::CreateOrderResponse { order: Some(order_to_proto(&stored)) }))
    }

    async fn get_order(
        &self,
        request: Request<pb::GetOrderRequest>,
    ) -> Result<Response<pb::GetOrderResponse>, Status> {
        let order_id = order_id(&request.get_ref().order_id)?;
        let (stored, history) = self.orders.get(order_id).await?;
        let mut state = None;
        let history = history.iter().map(|event| {
            let order = domain::evolve(order_id, state.take(), &event.event);
            let transition = transition_to_proto(&order, event);
            state = Some(order);
            transition
        });
        let history = history.collect();
        Ok(Response::new(pb::GetOrderResponse { order: Some(order_to_proto(&stored)), history }))
    }

    async fn list_orders(
        &self,
        request: Request<pb::ListOrdersRequest>,
    ) -> Result<Response<pb::ListOrdersResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::default();
        if !request.customer_id.is_empty() && !domain::is_external_id(&request.customer_id) {
            violations.add("customer_id", "must be 1 to 64 of A-Z a-z 0-9 . _ -");
        }
        let wanted = pb::OrderStatus::try_from(request.status).unwrap_or_else(|_| {
            violations.add("status", "must be a known status");
            pb::OrderStatus::Unspecified
        });
        let size = page::size(&mut violations, request.page_size);
        let filter_key = (&request.customer_id, request.status);
        let before = page::after(&mut violations, &request.page_token, &filter_key);
        violations.into_result()?;
        let filter = Filter {
            customer_id: (!request.customer_id.is_empty()).then(|| request.customer_id.clone()),
            status: status_from_proto(wanted),
        };
        let Page { mut orders, size } = self.orders.list(&filter, before, size).await?;
        let next_page_token = page::cut(&mut orders, size, &filter_key, |stored| stored.order.id);
        let orders = orders.iter().map(order_to_proto).collect();
        Ok(Response::new(pb::ListOrdersResponse { orders, next_page_token }))
    }

    async fn cancel_order(
        &self,
        request: Request<pb::CancelOrderRequest>,
    ) -> Result<Response<pb::CancelOrderResponse>, Status> {
        let order_id = order_id(&request.get_ref().order_id)?;
        let stored = self.orders.cancel(order_id).await?;
        Ok(Response::new(pb::CancelOrderResponse { order: Some(order_to_proto(&stored)) }))
    }

    async fn resolve_order(
        &self,
        request: Request<pb::ResolveOrderRequest>,
    ) -> Result<Response<pb::ResolveOrderResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::default();
        let order_id = violations.uuid("order_id", &request.order_id);
        let resolution = match request.resolution() {
            pb::Resolution::Retry => Some(Resolution::Retry),
            pb::Resolution::Cancel => Some(Resolution::Cancel),
            pb::Resolution::Close => Some(Resolution::Close),
            pb::Resolution::Unspecified => None,
        };
        if resolution.is_none() {
            violations.add("resolution", "must be RESOLUTION_RETRY, RESOLUTION_CANCEL or RESOLUTION_CLOSE");
        }
        let reason = request.reason.trim();
        if reason.is_empty() || reason.chars().count() > MAX_REASON || reason.contains('\0') {
            violations.add("reason", "must be 1 to 500 characters");
        }
        violations.into_result()?;
        is_about(order_id);
        let Some(resolution) = resolution else { return Err(status(Why::Internal, "a violation was lost")) };
        let stored = self.orders.resolve(order_id, resolution, reason.to_owned()).await?;
        Ok(Response::new(pb::ResolveOrderResponse { order: Some(order_to_proto(&stored)) }))
    }

    async fn watch_order(
        &self,
        request: Request<pb::WatchOrderRequest>,
    ) -> Result<Response<Transitions>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::default();
        let order_id = violations.uuid("order_id", &request.order_id);
        if request.after_version < 0 {
            violations.add("after_version", "must not be negative");
        }
        violations.into_result()?;
        is_about(order_id);
        let transitions = self.watchers.watch(order_id, request.after_version).await?;
        let transitions = transitions.map(|transition| {
            let (order, event) = transition?;
            Ok(pb::WatchOrderResponse { transition: Some(transition_to_proto(&order, &event)) })
        });
        Ok(Response::new(Box::pin(transitions)))
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        refusal(&error)
    }
}

fn refusal(error: &Error) -> Status {
    let message = error.to_string();
    match error {
        Error::NotFound(_) => status(Why::OrderNotFound, message),
        Error::RequestIdReused(_) => status(Why::RequestIdReused, message),
        Error::Refused(Refused::NotCancellable) => status(Why::NotCancellable, message),
        Error::Refused(Refused::NotResolvable) => status(Why::NotResolvable, message),
        Error::Unavailable(unavailable) => refused_product(unavailable, message),
        Error::Invalid(violation) => {
            let mut violations = Violations::default();
            violations.add(&violation.field, violation.description);
            violations.into_result().err().unwrap_or_else(|| Status::invalid_argument(message))
        }
        Error::Together(error) => refusal(error),
        Error::Lost => status(Why::Internal, message),
        Error::Outbox(error) => from_outbox(error),
        Error::Sql(error) => from_sql(error),
    }
}

/// Which product, and what it costs now, also for programs.
fn refused_product(unavailable: &Unavailable, message: String) -> Status {
    let metadata = |product_id: &str| HashMap::from([("product_id".to_owned(), product_id.to_owned())]);
    match unavailable {
        Unavailable::Unknown { product_id } | Unavailable::Archived { product_id } => {
            status_with(Why::ProductNotFound, message, metadata(product_id))
        }
        Unavailable::PriceChanged { product_id, price } => {
            let mut metadata = metadata(product_id);
            metadata.insert("currency".to_owned(), price.currency.clone());
            metadata.insert("minor".to_owned(), price.minor.to_string());
            status_with(Why::PriceChanged, message, metadata)
        }
    }
}

fn order_id(value: &str) -> Result<Uuid, Status> {
    let mut violations = Violations::default();
    let order_id = violations.uuid("order_id", value);
    violations.into_result()?;
    is_about(order_id);
    Ok(order_id)
}

/// Says in the call's trace and log which order it is about.
fn is_about(order_id: Uuid) {
    Span::current().record("order_id", display(order_id));
}

fn draft(request: pb::CreateOrderRequest) -> Draft {
    let items = request.items.into_iter().map(|item| DraftItem {
        product_id: item.product_id,
        quantity: item.quantity,
        unit_price: item.unit_price.map(|price| Money { currency: price.currency, minor: price.minor }),
    });
    Draft {
        items: items.collect(),
        customer_id: request.customer_id,
        payment_token: PaymentToken::new(request.payment_token),
    }
}

/// All of the request but its id, with the payment token as its hash.
fn request_hash(request: &pb::CreateOrderRequest, token_hash: &str) -> Vec<u8> {
    let body = pb::CreateOrderRequest {
        payment_token: token_hash.to_owned(),
        request_id: String::new(),
        ..request.clone()
    };
    Sha256::digest(body.encode_to_vec()).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn order_to_proto(stored: &StoredOrder) -> pb::Order {
    let order = &stored.order;
    pb::Order {
        order_id: order.id.to_string(),
        customer_id: order.customer_id.clone(),
        status: status_to_proto(order.status).into(),
        version: order.version,
        status_reason: reason_to_proto(order.shown_reason()),
        items: order.items.iter().map(item_to_proto).collect(),
        total: Some(money_to_proto(&order.total)),
        payment_id: order.payment_id.to_string(),
        create_time: Some(timestamp(stored.created_at)),
        update_time: Some(timestamp(stored.updated_at)),
        deadline: stored.deadline.map(timestamp),
        shipment: order.shipment.as_ref().map(shipment_to_proto),
    }
}

/// A transition on the wire; `order` is the state that it led to.
pub fn transition_to_proto(order: &Order, event: &StoredEvent) -> pb::OrderTransition {
    pb::OrderTransition {
        version: event.version,
        event: event.event.name().to_owned(),
        status: status_to_proto(order.status).into(),
        status_reason: reason_to_proto(order.shown_reason()),
        event_time: Some(timestamp(event.occurred_at)),
        detail: event.event.detail(),
    }
}

fn status_to_proto(status: domain::Status) -> pb::OrderStatus {
    match status {
        domain::Status::Pending => pb::OrderStatus::Pending,
        domain::Status::StockReserved => pb::OrderStatus::StockReserved,
        domain::Status::Paid => pb::OrderStatus::Paid,
        domain::Status::Confirmed => pb::OrderStatus::Confirmed,
        domain::Status::Compensating => pb::OrderStatus::Compensating,
        domain::Status::Rejected => pb::OrderStatus::Rejected,
        domain::Status::Cancelled => pb::OrderStatus::Cancelled,
        domain::Status::NeedsAttention => pb::OrderStatus::NeedsAttention,
    }
}

fn status_from_proto(status: pb::OrderStatus) -> Option<domain::Status> {
    match status {
        pb::OrderStatus::Unspecified => None,
        pb::OrderStatus::Pending => Some(domain::Status::Pending),
        pb::OrderStatus::StockReserved => Some(domain::Status::StockReserved),
        pb::OrderStatus::Paid => Some(domain::Status::Paid),
        pb::OrderStatus::Confirmed => Some(domain::Status::Confirmed),
        pb::OrderStatus::Compensating => Some(domain::Status::Compensating),
        pb::OrderStatus::Rejected => Some(domain::Status::Rejected),
        pb::OrderStatus::Cancelled => Some(domain::Status::Cancelled),
        pb::OrderStatus::NeedsAttention => Some(domain::Status::NeedsAttention),
    }
}

/// A reason on the wire; unspecified while all goes well.
pub fn reason_to_proto(reason: Option<Reason>) -> i32 {
    let reason = match reason {
        None => pb::StatusReason::Unspecified,
        Some(Reason::PaymentDeclined) => pb::StatusReason::PaymentDeclined,
        Some(Reason::InsufficientFunds) => pb::StatusReason::InsufficientFunds,
        Some(Reason::PaymentExpired) => pb::StatusReason::PaymentExpired,
        Some(Reason::CancelledByCustomer) => pb::StatusReason::CancelledByCustomer,
        Some(Reason::OutOfStock) => pb::StatusReason::OutOfStock,
        Some(Reason::NotSold) => pb::StatusReason::NotSold,
        Some(Reason::StockExpired) => pb::StatusReason::StockExpired,
        Some(Reason::CancelledByOperator) => pb::StatusReason::CancelledByOperator,
        Some(Reason::CompensationOverdue) => pb::StatusReason::CompensationOverdue,
        Some(Reason::ShipmentOverdue) => pb::StatusReason::ShipmentOverdue,
        Some(Reason::CommitFailed) => pb::StatusReason::CommitFailed,
    };
    reason.into()
}

/// A shipment on the wire.
pub fn shipment_to_proto(shipment: &Shipment) -> pb::Shipment {
    pb::Shipment {
        shipment_id: shipment.shipment_id.to_string(),
        carrier: shipment.carrier.clone(),
        ship_time: Some(timestamp(shipment.ship_time)),
    }
}

/// A moment on the wire.
pub fn timestamp(at: OffsetDateTime) -> prost_types::Timestamp {
    // Below 1,000,000,000 by its definition.
    prost_types::Timestamp { seconds: at.unix_timestamp(), nanos: at.nanosecond() as i32 }
}

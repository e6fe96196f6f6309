//! What each event of an order says to the other services, and on which topic.

use outbox::Source;
use proto::{
    billing::v1::{PaymentRequested, RefundRequested},
    inventory::v1::{CommitStock, ReleaseStock, ReserveStock, StockItem},
    money::v1 as money,
    notification::v1::{NotificationKind, NotificationRequested},
    order::v1 as order,
};
use time::OffsetDateTime;

use crate::{
    api::{reason_to_proto, shipment_to_proto, timestamp, transition_to_proto},
    domain::{self, Event, Item, Money, Order, PaymentToken, Reason, Request},
    store::StoredEvent,
};

/// Announces accepted orders.
pub const ORDER_CREATED: &str = "order-created";
/// Announces every later transition.
pub const ORDER_STATUS: &str = "order-status";
/// Asks inventory.
pub const STOCK_REQUESTS: &str = "stock-requests";
/// Asks billing.
pub const PAYMENT_REQUESTS: &str = "payment-requests";
/// Asks notification.
pub const NOTIFICATION_EVENTS: &str = "notification-events";

const SOURCE: Source = Source::new("/orderly/order");

/// What an event is told with.
#[derive(Clone, Copy, Debug)]
pub struct Telling<'a> {
    /// The order before it.
    pub before: Option<&'a Order>,
    /// The event.
    pub event: &'a StoredEvent,
    /// The order after it.
    pub after: &'a Order,
    /// Until when what is asked for is wanted.
    pub deadline: Option<OffsetDateTime>,
    /// What the payment is taken from, as long as it is kept.
    pub token: Option<&'a PaymentToken>,
}

impl Telling<'_> {
    /// Everything that the event says: what it asks for, what it announces, what the customer is told.
    pub fn events(&self) -> Vec<outbox::Event> {
        let requests = domain::requests(self.before, &self.event.event, self.after);
        let mut events = vec![self.announcement()];
        events.extend(requests.into_iter().map(|request| self.request(request)));
        events.extend(self.notification());
        events
    }

    fn announcement(&self) -> outbox::Event {
        let (order_id, customer_id) = (self.after.id.to_string(), self.after.customer_id.clone());
        let reason_of = |reason: &Reason| reason_to_proto(Some(*reason));
        match &self.event.event {
            Event::OrderPlaced(placed) => {
                let created = order::OrderCreated {
                    order_id,
                    customer_id,
                    items: placed.items.iter().map(item_to_proto).collect(),
                    total: Some(money_to_proto(&placed.total)),
                    create_time: Some(timestamp(self.event.occurred_at)),
                };
                self.message(ORDER_CREATED, &created)
            }
            Event::StockReserved {} => {
                self.message(ORDER_STATUS, &order::OrderStockReserved { order_id, customer_id })
            }
            Event::PaymentSucceeded {} => {
                let payment_id = self.after.payment_id.to_string();
                self.message(ORDER_STATUS, &order::OrderPaid { order_id, customer_id, payment_id })
            }
            Event::OrderConfirmed {} => {
                self.message(ORDER_STATUS, &order::OrderConfirmed { order_id, customer_id })
            }
            Event::ShipmentScheduled(shipment) => {
                let shipment = Some(shipment_to_proto(shipment));
                self.message(ORDER_STATUS, &order::OrderShipped { order_id, customer_id, shipment })
            }
            Event::OrderRejected { reason } => {
                let reason = reason_of(reason);
                self.message(ORDER_STATUS, &order::OrderRejected { order_id, customer_id, reason })
            }
            Event::CompensationStarted { reason, .. } => {
                let reason = reason_of(reason);
                self.message(ORDER_STATUS, &order::OrderCompensating { order_id, customer_id, reason })
            }
            Event::OrderCancelled { reason } => {
                let reason = reason_of(reason);
                self.message(ORDER_STATUS, &order::OrderCancelled { order_id, customer_id, reason })
            }
            Event::AttentionNeeded { reason } => {
                let reason = reason_of(reason);
                self.message(ORDER_STATUS, &order::OrderNeedsAttention { order_id, customer_id, reason })
            }
            Event::StockReleased {}
            | Event::PaymentRefunded { .. }
            | Event::LatePaymentFound {}
            | Event::LateStockFound {}
            | Event::RequestsRepeated {}
            | Event::OrderResolved { .. } => {
                let transition = Some(transition_to_proto(self.after, self.event));
                self.message(ORDER_STATUS, &order::OrderProgressed { order_id, customer_id, transition })
            }
        }
    }

    /// The payment token goes to billing and nowhere else.
    fn request(&self, request: Request) -> outbox::Event {
        let order = self.after;
        let (order_id, payment_id) = (order.id.to_string(), order.payment_id.to_string());
        let (customer_id, not_after) = (order.customer_id.clone(), self.deadline.map(timestamp));
        match request {
            Request::ReserveStock => {
                let items = order
                    .items
                    .iter()
                    .map(|item| StockItem { product_id: item.product_id.clone(), quantity: item.quantity });
                let items = items.collect();
                self.message(STOCK_REQUESTS, &ReserveStock { order_id, items, not_after })
            }
            Request::CommitStock => self.message(STOCK_REQUESTS, &CommitStock { order_id }),
            Request::ReleaseStock => self.message(STOCK_REQUESTS, &ReleaseStock { order_id }),
            Request::TakePayment => {
                let payment = PaymentRequested {
                    payment_id,
                    order_id,
                    customer_id,
                    amount: Some(money_to_proto(&order.total)),
                    payment_token: self.token.map(PaymentToken::expose).unwrap_or_default().to_owned(),
                    not_after,
                };
                self.message(PAYMENT_REQUESTS, &payment)
            }
            Request::RefundPayment => {
                self.message(PAYMENT_REQUESTS, &RefundRequested { payment_id, order_id, customer_id })
            }
        }
    }

    /// What the customer is to be told.
    fn notification(&self) -> Option<outbox::Event> {
        let total = || money_to_proto(&self.after.total);
        let (kind, amount, reason) = match &self.event.event {
            Event::OrderConfirmed {} => (NotificationKind::OrderConfirmed, total(), String::new()),
            Event::OrderRejected { reason } => {
                (NotificationKind::OrderRejected, total(), in_words(*reason).to_owned())
            }
            Event::OrderCancelled { reason } => {
                (NotificationKind::OrderCancelled, total(), in_words(*reason).to_owned())
            }
            Event::ShipmentScheduled(shipment) => {
                let date = shipment.ship_time.date();
                (NotificationKind::OrderShipped, total(), format!("with {}, from {date}", shipment.carrier))
            }
            Event::PaymentRefunded { minor: minor @ 1.. } => {
                let back = money::Money { minor: *minor, ..total() };
                (NotificationKind::OrderRefunded, back, String::new())
            }
            _ => return None,
        };
        let request = NotificationRequested {
            order_id: self.after.id.to_string(),
            customer_id: self.after.customer_id.clone(),
            kind: kind.into(),
            amount: Some(amount),
            reason,
        };
        Some(self.message(NOTIFICATION_EVENTS, &request))
    }

    fn message<M: prost::Message + prost::Name>(&self, topic: &'static str, message: &M) -> outbox::Event {
        SOURCE.event(topic, self.after.id, self.event.version, message)
    }
}

/// For the customer.
fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::PaymentDeclined => "your payment was declined",
        Reason::InsufficientFunds => "your account does not cover the amount",
        Reason::PaymentExpired => "your payment could not be taken in time",
        Reason::CancelledByCustomer => "you cancelled it",
        Reason::OutOfStock => "a product is out of stock",
        Reason::NotSold => "a product is no longer sold",
        Reason::StockExpired => "its products could not be reserved in time",
        Reason::CancelledByOperator
        | Reason::CompensationOverdue
        | Reason::ShipmentOverdue
        | Reason::CommitFailed => "we could not fulfil it",
    }
}

/// An amount on the wire.
pub fn money_to_proto(amount: &Money) -> money::Money {
    money::Money { currency: amount.currency.clone(), minor: amount.minor }
}

/// An item on the wire.
pub fn item_to_proto(item: &Item) -> order::OrderItem {
    order::OrderItem {
        product_id: item.product_id.clone(),
        quantity: item.quantity,
        unit_price: Some(money_to_proto(&item.unit_price)),
    }
}

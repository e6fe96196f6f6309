//! What each event of an order says to the other services, and on which topic.

use outbox::Source;
use proto::{
    billing::v1::{PaymentRequested, RefundRequested},
    money::v1 as money,
    notification::v1::{NotificationKind, NotificationRequested},
    order::v1 as order,
};
use time::OffsetDateTime;

use crate::{
    api::{reason_to_proto, timestamp},
    domain::{Event, Item, Money, Order, Placed, Reason},
};

/// Announces accepted orders.
pub const ORDER_CREATED: &str = "order-created";
/// Announces every later transition.
pub const ORDER_STATUS: &str = "order-status";
/// Asks billing.
pub const PAYMENT_REQUESTS: &str = "payment-requests";
/// Asks notification.
pub const NOTIFICATION_EVENTS: &str = "notification-events";

const SOURCE: Source = Source::new("/orderly/order");

/// What a new order says. The payment token goes to billing and nowhere else.
pub fn placed(
    order: &Order,
    placed: &Placed,
    token: &str,
    at: OffsetDateTime,
    not_after: OffsetDateTime,
) -> Vec<outbox::Event> {
    let created = order::OrderCreated {
        order_id: order.id.to_string(),
        customer_id: placed.customer_id.clone(),
        items: placed.items.iter().map(item_to_proto).collect(),
        total: Some(money_to_proto(&placed.total)),
        create_time: Some(timestamp(at)),
    };
    let payment = PaymentRequested {
        payment_id: placed.payment_id.to_string(),
        order_id: order.id.to_string(),
        customer_id: placed.customer_id.clone(),
        amount: Some(money_to_proto(&placed.total)),
        payment_token: token.to_owned(),
        not_after: Some(timestamp(not_after)),
    };
    vec![
        SOURCE.event(ORDER_CREATED, order.id, order.version, &created),
        SOURCE.event(PAYMENT_REQUESTS, order.id, order.version, &payment),
    ]
}

/// What an event after the first says; `order` is the state that it led to.
pub fn of(order: &Order, event: &Event) -> Vec<outbox::Event> {
    let (order_id, customer_id) = (order.id.to_string(), order.customer_id.clone());
    match event {
        // Spoken by `placed`, which knows the payment token.
        Event::OrderPlaced(_) => vec![],
        Event::PaymentSucceeded {} => {
            let paid = order::OrderPaid { order_id, customer_id, payment_id: order.payment_id.to_string() };
            vec![SOURCE.event(ORDER_STATUS, order.id, order.version, &paid)]
        }
        Event::OrderConfirmed {} => vec![
            SOURCE.event(
                ORDER_STATUS,
                order.id,
                order.version,
                &order::OrderConfirmed { order_id, customer_id },
            ),
            notify(order, NotificationKind::OrderConfirmed, None),
        ],
        Event::OrderRejected { reason } => {
            let rejected =
                order::OrderRejected { order_id, customer_id, reason: reason_to_proto(Some(*reason)) };
            vec![
                SOURCE.event(ORDER_STATUS, order.id, order.version, &rejected),
                notify(order, NotificationKind::OrderRejected, Some(*reason)),
            ]
        }
        Event::CancellationRequested { reason } => {
            let undoing =
                order::OrderCompensating { order_id, customer_id, reason: reason_to_proto(Some(*reason)) };
            vec![SOURCE.event(ORDER_STATUS, order.id, order.version, &undoing), refund(order)]
        }
        Event::OrderCancelled { reason } => {
            let cancelled =
                order::OrderCancelled { order_id, customer_id, reason: reason_to_proto(Some(*reason)) };
            vec![
                SOURCE.event(ORDER_STATUS, order.id, order.version, &cancelled),
                notify(order, NotificationKind::OrderCancelled, Some(*reason)),
            ]
        }
        Event::LatePaymentFound {} => vec![refund(order)],
    }
}

fn refund(order: &Order) -> outbox::Event {
    let request = RefundRequested {
        payment_id: order.payment_id.to_string(),
        order_id: order.id.to_string(),
        customer_id: order.customer_id.clone(),
    };
    SOURCE.event(PAYMENT_REQUESTS, order.id, order.version, &request)
}

fn notify(order: &Order, kind: NotificationKind, reason: Option<Reason>) -> outbox::Event {
    let request = NotificationRequested {
        order_id: order.id.to_string(),
        customer_id: order.customer_id.clone(),
        kind: kind.into(),
        amount: Some(money_to_proto(&order.total)),
        reason: reason.map(in_words).unwrap_or_default().to_owned(),
    };
    SOURCE.event(NOTIFICATION_EVENTS, order.id, order.version, &request)
}

/// For the customer.
fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::PaymentDeclined => "your payment was declined",
        Reason::InsufficientFunds => "your account does not cover the amount",
        Reason::PaymentExpired => "your payment could not be taken in time",
        Reason::CancelledByCustomer => "you cancelled it",
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

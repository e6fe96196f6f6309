//! The state machine of an order.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Item, Money, Placed};

/// Where an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Accepted; waits for the payment's answer.
    Pending,
    /// Stock is held for it.
    StockReserved,
    /// The provider has the money.
    Paid,
    /// The end of an order that went well.
    Confirmed,
    /// Being undone; waits for the refund's answer.
    Compensating,
    /// Failed, with nothing left behind.
    Rejected,
    /// Cancelled, with nothing left behind.
    Cancelled,
    /// Parked for an operator.
    NeedsAttention,
}

/// Why an order did not go well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    /// The provider declined the charge.
    PaymentDeclined,
    /// The customer's account does not cover it.
    InsufficientFunds,
    /// Billing took the request after its deadline.
    PaymentExpired,
    /// The customer changed their mind.
    CancelledByCustomer,
}

/// What has happened to an order; persisted, so a variant is never changed, only added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", content = "data")]
pub enum Event {
    /// It was accepted, and its payment requested.
    OrderPlaced(Placed),
    /// The provider has the money.
    PaymentSucceeded {},
    /// Nothing more can go wrong for the customer.
    OrderConfirmed {},
    /// It has failed.
    OrderRejected {
        /// Why.
        reason: Reason,
    },
    /// It is to be undone; the refund was requested.
    CancellationRequested {
        /// Why.
        reason: Reason,
    },
    /// It was undone.
    OrderCancelled {
        /// Why.
        reason: Reason,
    },
    /// Money arrived for an order that had ended without; its refund was requested.
    LatePaymentFound {},
}

/// What somebody wants of an order, or has found out about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// The customer cancels.
    Cancel,
    /// Billing: the provider has the money.
    PaymentSucceeded,
    /// Billing: the provider refused for good.
    PaymentFailed(Reason),
    /// Billing: nothing of the payment is left with us.
    PaymentRefunded,
}

/// An order after some of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// UUIDv7.
    pub id: Uuid,
    /// Who ordered.
    pub customer_id: String,
    /// Where it is.
    pub status: Status,
    /// Why, when it did not go well.
    pub reason: Option<Reason>,
    /// Number of its events.
    pub version: i32,
    /// What was ordered.
    pub items: Vec<Item>,
    /// Sum over the items.
    pub total: Money,
    /// Its one payment.
    pub payment_id: Uuid,
}

/// Too late to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the order can no longer be cancelled")]
pub struct NotCancellable;

/// The events that a command causes in a state. None is the answer to a repeat; a late success is never a repeat.
pub fn decide(order: &Order, command: Command) -> Result<Vec<Event>, NotCancellable> {
    use Status::{
        Cancelled, Compensating, Confirmed, NeedsAttention, Paid, Pending, Rejected, StockReserved,
    };
    let waits_for_payment = matches!(order.status, Pending | StockReserved);
    let events = match (command, order.status) {
        (Command::Cancel, Pending | StockReserved) => {
            vec![Event::CancellationRequested { reason: Reason::CancelledByCustomer }]
        }
        (Command::Cancel, Compensating | Cancelled) => vec![],
        (Command::Cancel, Paid | Confirmed | Rejected | NeedsAttention) => return Err(NotCancellable),

        // Without stock nothing is left to wait for: paid is confirmed.
        (Command::PaymentSucceeded, _) if waits_for_payment => {
            vec![Event::PaymentSucceeded {}, Event::OrderConfirmed {}]
        }
        (Command::PaymentSucceeded, Rejected | Cancelled) => vec![Event::LatePaymentFound {}],
        // Its refund is on its way already, or an operator decides.
        (Command::PaymentSucceeded, _) => vec![],

        (Command::PaymentFailed(reason), _) if waits_for_payment => vec![Event::OrderRejected { reason }],
        // Billing answers the refund request too; the order ends with that answer.
        (Command::PaymentFailed(_), _) => vec![],

        (Command::PaymentRefunded, Compensating) => {
            vec![Event::OrderCancelled { reason: order.reason.unwrap_or(Reason::CancelledByCustomer) }]
        }
        (Command::PaymentRefunded, _) => vec![],
    };
    Ok(events)
}

/// The state after an event. `None` is the order before its first one.
///
/// # Panics
/// When the first event of an order is not [`Event::OrderPlaced`]: the append-only history would be broken.
pub fn evolve(id: Uuid, order: Option<Order>, event: &Event) -> Order {
    if let Event::OrderPlaced(placed) = event {
        return Order {
            id,
            customer_id: placed.customer_id.clone(),
            status: Status::Pending,
            reason: None,
            version: 1,
            items: placed.items.clone(),
            total: placed.total.clone(),
            payment_id: placed.payment_id,
        };
    }
    let Some(mut order) = order else { panic!("the history of order {id} does not begin with OrderPlaced") };
    order.version += 1;
    (order.status, order.reason) = match event {
        Event::OrderPlaced(_) | Event::LatePaymentFound {} => (order.status, order.reason),
        Event::PaymentSucceeded {} => (Status::Paid, None),
        Event::OrderConfirmed {} => (Status::Confirmed, None),
        Event::OrderRejected { reason } => (Status::Rejected, Some(*reason)),
        Event::CancellationRequested { reason } => (Status::Compensating, Some(*reason)),
        Event::OrderCancelled { reason } => (Status::Cancelled, Some(*reason)),
    };
    order
}

impl Event {
    /// The name under which it is persisted.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OrderPlaced(_) => "OrderPlaced",
            Self::PaymentSucceeded {} => "PaymentSucceeded",
            Self::OrderConfirmed {} => "OrderConfirmed",
            Self::OrderRejected { .. } => "OrderRejected",
            Self::CancellationRequested { .. } => "CancellationRequested",
            Self::OrderCancelled { .. } => "OrderCancelled",
            Self::LatePaymentFound {} => "LatePaymentFound",
        }
    }
}

impl Status {
    /// Whether no event will change it any more, but for money that arrives late.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Confirmed | Self::Rejected | Self::Cancelled)
    }
}

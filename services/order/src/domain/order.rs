//! The state of an order, and what each event makes of it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Event, Item, Money, Outcome, Resolution, Shipment};

/// Where an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Accepted; waits for stock.
    Pending,
    /// Stock is held for it; waits for its payment.
    StockReserved,
    /// The provider has the money.
    Paid,
    /// Stocked and paid.
    Confirmed,
    /// Being undone; waits for the answers of stock and money.
    Compensating,
    /// Failed, with nothing left behind.
    Rejected,
    /// Cancelled, with nothing left behind.
    Cancelled,
    /// Parked for an operator.
    NeedsAttention,
}

/// Why an order did not go well, or waits for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    /// The provider declined the charge.
    PaymentDeclined,
    /// The customer's account does not cover it.
    InsufficientFunds,
    /// There was no payment before the deadline.
    PaymentExpired,
    /// The customer changed their mind.
    CancelledByCustomer,
    /// There are not as many.
    OutOfStock,
    /// Inventory does not sell one of the products.
    NotSold,
    /// There was no answer about stock before the deadline.
    StockExpired,
    /// An operator had it undone, or ended it.
    CancelledByOperator,
    /// A refund or a release stays unanswered.
    CompensationOverdue,
    /// It is paid, and its shipment stays unanswered.
    ShipmentOverdue,
    /// It is paid, and inventory holds nothing for it.
    CommitFailed,
}

/// What inventory has of an order, as far as the order knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stock {
    /// It was never asked for: the order is from before there was stock.
    NotWanted,
    /// Asked for.
    Requested,
    /// Held.
    Reserved,
    /// With the carrier, or about to be.
    Shipped,
    /// Asked back.
    Releasing,
    /// Nothing is held, and nothing will be.
    Free,
}

/// What billing has of an order, as far as the order knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Payment {
    /// Not asked for yet.
    NotWanted,
    /// Asked for.
    Requested,
    /// The provider has the money.
    Taken,
    /// Asked back.
    Refunding,
    /// Refused, or given back.
    Settled,
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
    /// Why it did not go well, once it does not.
    pub reason: Option<Reason>,
    /// What an operator is to look at; only in [`Status::NeedsAttention`].
    pub attention: Option<Reason>,
    /// Number of its events.
    pub version: i32,
    /// What was ordered.
    pub items: Vec<Item>,
    /// Sum over the items.
    pub total: Money,
    /// Its one payment.
    pub payment_id: Uuid,
    /// What inventory has of it.
    pub stock: Stock,
    /// What billing has of it.
    pub payment: Payment,
    /// How it travels, once that is known.
    pub shipment: Option<Shipment>,
    /// How it will end or has ended, once it is undone.
    pub outcome: Option<Outcome>,
    /// How often what it waits for was asked for again.
    pub repeats: i32,
}

impl Order {
    /// Whether nothing is expected to happen to it any more.
    pub fn is_at_its_end(&self) -> bool {
        match self.status {
            // It is free where it never was wanted and came nevertheless.
            Status::Confirmed => {
                matches!(self.stock, Stock::Shipped | Stock::NotWanted | Stock::Free) && !self.is_owed()
            }
            Status::Rejected | Status::Cancelled => !self.is_owed(),
            _ => false,
        }
    }

    /// Whether stock or money is to come back.
    pub fn is_owed(&self) -> bool {
        self.stock == Stock::Releasing || self.payment == Payment::Refunding
    }

    /// What to tell about its status.
    pub fn shown_reason(&self) -> Option<Reason> {
        self.attention.or(self.reason)
    }
}

/// The state after an event. `None` is the order before its first one.
///
/// # Panics
/// When the first event of an order is not [`Event::OrderPlaced`]: the append-only history would be broken.
pub fn evolve(id: Uuid, order: Option<Order>, event: &Event) -> Order {
    if let Event::OrderPlaced(placed) = event {
        let (stock, payment) = match placed.reserves_stock {
            true => (Stock::Requested, Payment::NotWanted),
            false => (Stock::NotWanted, Payment::Requested),
        };
        return Order {
            id,
            customer_id: placed.customer_id.clone(),
            status: Status::Pending,
            reason: None,
            attention: None,
            version: 1,
            items: placed.items.clone(),
            total: placed.total.clone(),
            payment_id: placed.payment_id,
            stock,
            payment,
            shipment: None,
            outcome: None,
            repeats: 0,
        };
    }
    let Some(mut order) = order else { panic!("the history of order {id} does not begin with OrderPlaced") };
    order.version += 1;
    match event {
        Event::OrderPlaced(_) => {}
        Event::StockReserved {} => {
            order.status = Status::StockReserved;
            order.stock = Stock::Reserved;
            order.payment = Payment::Requested;
        }
        Event::PaymentSucceeded {} => {
            order.status = Status::Paid;
            order.payment = Payment::Taken;
        }
        Event::OrderConfirmed {} => order.status = Status::Confirmed,
        Event::ShipmentScheduled(shipment) => {
            order.status = Status::Confirmed;
            order.attention = None;
            order.stock = Stock::Shipped;
            order.shipment = Some(shipment.clone());
        }
        Event::OrderRejected { reason } => order.end(Outcome::Rejected, *reason),
        Event::OrderCancelled { reason } => order.end(Outcome::Cancelled, *reason),
        Event::CompensationStarted { reason, outcome, payment_failed } => {
            order.status = Status::Compensating;
            order.reason = Some(*reason);
            order.attention = None;
            order.outcome = Some(*outcome);
            order.repeats = 0;
            order.give_back(*payment_failed);
        }
        Event::StockReleased {} => order.stock = Stock::Free,
        Event::PaymentRefunded { .. } => order.payment = Payment::Settled,
        Event::LatePaymentFound {} => {
            order.payment = Payment::Refunding;
            order.repeats = 0;
        }
        Event::LateStockFound {} => {
            order.stock = Stock::Releasing;
            order.repeats = 0;
        }
        Event::RequestsRepeated {} => order.repeats += 1,
        Event::AttentionNeeded { reason } => {
            order.status = Status::NeedsAttention;
            order.attention = Some(*reason);
        }
        Event::OrderResolved { resolution, .. } => order.resolve(*resolution),
    }
    order
}

impl Order {
    fn end(&mut self, outcome: Outcome, reason: Reason) {
        self.status = match outcome {
            Outcome::Rejected => Status::Rejected,
            Outcome::Cancelled => Status::Cancelled,
        };
        self.reason = Some(reason);
        self.attention = None;
        self.outcome = Some(outcome);
        // Refused by inventory, there is nothing to release. What was asked back has answered by now; orders from before
        // there was stock kept no event of that.
        if matches!(self.stock, Stock::Requested | Stock::Releasing) {
            self.stock = Stock::Free;
        }
        if matches!(self.payment, Payment::Requested | Payment::Refunding) {
            self.payment = Payment::Settled;
        }
    }

    fn give_back(&mut self, payment_failed: bool) {
        if matches!(self.stock, Stock::Requested | Stock::Reserved | Stock::Shipped) {
            self.stock = Stock::Releasing;
        }
        if payment_failed {
            self.payment = Payment::Settled;
        } else if matches!(self.payment, Payment::Requested | Payment::Taken) {
            self.payment = Payment::Refunding;
        }
    }

    fn resolve(&mut self, resolution: Resolution) {
        self.attention = None;
        self.repeats = 0;
        self.status = match self.outcome {
            None => Status::Confirmed,
            Some(_) => Status::Compensating,
        };
        if resolution == Resolution::Close {
            // Whatever they were: the operator answers for them.
            self.stock = Stock::Free;
            self.payment = Payment::Settled;
        }
    }
}

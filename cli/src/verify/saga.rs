//! What the events of an order make of it, one after the other: the truth that its row and everybody else must agree
//! with.

use std::collections::HashMap;

use uuid::Uuid;

use super::facts::{OrderEvent, OrderEventKind, OrderStatus, PaymentLeg, Placed, Reason, StockLeg};

/// An order after some of its events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Saga<'f> {
    pub(super) placed: Option<&'f Placed>,
    pub(super) status: OrderStatus,
    /// Why it is undone.
    pub(super) reason: Option<Reason>,
    /// What an operator is to look at.
    pub(super) attention: Option<Reason>,
    pub(super) stock: StockLeg,
    pub(super) payment: PaymentLeg,
    pub(super) outcome: Option<OrderStatus>,
    pub(super) shipment: Option<Uuid>,
    /// How often what it waits for was asked for again.
    pub(super) repeats: i32,
    /// What it was told that billing has given back; none where orders were not told yet.
    pub(super) refunded_minor: Option<i64>,
    /// An operator has ended it, and answers for its stock and its money.
    pub(super) closed: bool,
}

impl<'f> Saga<'f> {
    /// Before the first event.
    pub(super) const UNKNOWN: Self = Self {
        placed: None,
        status: OrderStatus::Pending,
        reason: None,
        attention: None,
        stock: StockLeg::NotWanted,
        payment: PaymentLeg::NotWanted,
        outcome: None,
        shipment: None,
        repeats: 0,
        refunded_minor: Some(0),
        closed: false,
    };

    /// After all of them.
    pub(super) fn of(events: &'f [OrderEvent]) -> Self {
        events.iter().fold(Self::UNKNOWN, Self::after)
    }

    /// After one more, whether or not it fits.
    pub(super) fn after(mut self, event: &'f OrderEvent) -> Self {
        match event.kind {
            OrderEventKind::Placed => self.begin(event),
            OrderEventKind::StockReserved => {
                self.status = OrderStatus::StockReserved;
                (self.stock, self.payment) = (StockLeg::Reserved, PaymentLeg::Requested);
            }
            OrderEventKind::PaymentSucceeded => {
                (self.status, self.payment) = (OrderStatus::Paid, PaymentLeg::Taken);
            }
            OrderEventKind::Confirmed => self.status = OrderStatus::Confirmed,
            OrderEventKind::ShipmentScheduled => {
                (self.status, self.stock) = (OrderStatus::Confirmed, StockLeg::Shipped);
                (self.shipment, self.attention) = (event.shipment, None);
            }
            OrderEventKind::Rejected => self.end(OrderStatus::Rejected, event),
            OrderEventKind::Cancelled => self.end(OrderStatus::Cancelled, event),
            OrderEventKind::CompensationStarted | OrderEventKind::CancellationRequested => self.undo(event),
            OrderEventKind::StockReleased => self.stock = StockLeg::Free,
            OrderEventKind::PaymentRefunded => {
                self.payment = PaymentLeg::Settled;
                self.refunded_minor =
                    self.refunded_minor.map(|minor| minor.saturating_add(event.refunded_minor));
            }
            OrderEventKind::LatePaymentFound => (self.payment, self.repeats) = (PaymentLeg::Refunding, 0),
            OrderEventKind::LateStockFound => (self.stock, self.repeats) = (StockLeg::Releasing, 0),
            OrderEventKind::RequestsRepeated => self.repeats += 1,
            OrderEventKind::AttentionNeeded => {
                (self.status, self.attention) = (OrderStatus::NeedsAttention, event.reason);
            }
            OrderEventKind::Resolved => self.resolve(event),
        }
        self
    }

    /// Whether its stock or its money is asked back.
    pub(super) fn is_owed(&self) -> bool {
        self.stock == StockLeg::Releasing || self.payment == PaymentLeg::Refunding
    }

    /// Whether nothing is to happen to it any more.
    pub(super) fn is_at_its_end(&self) -> bool {
        let ended = match self.status {
            OrderStatus::Rejected | OrderStatus::Cancelled => true,
            // Its stock is free where it never was wanted and came nevertheless.
            OrderStatus::Confirmed => {
                matches!(self.stock, StockLeg::Shipped | StockLeg::NotWanted | StockLeg::Free)
            }
            _ => false,
        };
        ended && !self.is_owed()
    }

    /// Whether somebody owes it an answer, and not an operator a decision.
    pub(super) fn waits(&self) -> bool {
        self.status != OrderStatus::NeedsAttention && !self.is_at_its_end()
    }

    /// Whether an operator is to decide about it, or has ended it as it was.
    pub(super) fn is_operators(&self) -> bool {
        self.status == OrderStatus::NeedsAttention || self.closed
    }

    /// Whether billing was ever asked for anything.
    pub(super) fn has_asked_for_money(&self) -> bool {
        self.payment != PaymentLeg::NotWanted
    }

    fn begin(&mut self, event: &'f OrderEvent) {
        self.placed = event.placed.as_deref();
        if self.placed.is_none_or(|placed| placed.reserves_stock) {
            self.stock = StockLeg::Requested;
        } else {
            self.payment = PaymentLeg::Requested;
        }
    }

    fn undo(&mut self, event: &OrderEvent) {
        self.status = OrderStatus::Compensating;
        (self.reason, self.attention, self.outcome) = (event.reason, None, event.outcome);
        self.repeats = 0;
        if matches!(self.stock, StockLeg::Requested | StockLeg::Reserved | StockLeg::Shipped) {
            self.stock = StockLeg::Releasing;
        }
        if event.payment_failed {
            self.payment = PaymentLeg::Settled;
        } else if matches!(self.payment, PaymentLeg::Requested | PaymentLeg::Taken) {
            self.payment = PaymentLeg::Refunding;
        }
    }

    fn end(&mut self, status: OrderStatus, event: &OrderEvent) {
        self.status = status;
        (self.reason, self.attention, self.outcome) = (event.reason, None, Some(status));
        // Refused: there is nothing to ask back.
        if self.stock == StockLeg::Requested {
            self.stock = StockLeg::Free;
        }
        if self.payment == PaymentLeg::Requested {
            self.payment = PaymentLeg::Settled;
        }
        // Before there was stock, the order's end was all that a refund's answer caused.
        if event.before_stock && self.payment == PaymentLeg::Refunding {
            (self.payment, self.refunded_minor) = (PaymentLeg::Settled, None);
        }
    }

    fn resolve(&mut self, event: &OrderEvent) {
        let undone = self.outcome.is_some();
        self.status = if undone { OrderStatus::Compensating } else { OrderStatus::Confirmed };
        (self.attention, self.repeats) = (None, 0);
        if event.closes {
            (self.stock, self.payment) = (StockLeg::Free, PaymentLeg::Settled);
            self.closed = true;
        }
    }
}

/// Every order after all of its events.
pub(super) fn all(events: &[OrderEvent]) -> HashMap<Uuid, Saga<'_>> {
    let of_orders = events.chunk_by(|one, next| one.order_id == next.order_id);
    of_orders.map(|events| (events[0].order_id, Saga::of(events))).collect()
}

/// Each event with the order before it.
pub(super) fn steps(events: &[OrderEvent]) -> impl Iterator<Item = (Saga<'_>, &OrderEvent)> {
    let mut before = Saga::UNKNOWN;
    let mut order_id = None;
    events.iter().map(move |event| {
        if order_id.replace(event.order_id) != Some(event.order_id) {
            before = Saga::UNKNOWN;
        }
        let step = (before, event);
        before = before.after(event);
        step
    })
}

//! What has happened to the orders of the world, and what that has left everywhere.

use uuid::Uuid;

use super::{World, rows::View};
use crate::verify::facts::{
    NotificationKind, OrderEvent, OrderEventKind, OrderStatus, PaymentLeg, PaymentStatus, Reason,
    ReservationState, StockLeg,
};

use NotificationKind::{
    OrderCancelled, OrderConfirmed, OrderRefunded, OrderRejected, OrderShipped, PaymentReceipt,
};
use OrderEventKind::{
    Cancelled, CompensationStarted, Confirmed, PaymentRefunded, PaymentSucceeded, Placed, Rejected,
    ShipmentScheduled, StockReleased, StockReserved,
};

/// An event that says nothing but its name.
pub(in crate::verify) fn event(kind: OrderEventKind) -> OrderEvent {
    OrderEvent {
        order_id: Uuid::nil(),
        version: 0,
        kind,
        occurred_ms: 0,
        before_stock: false,
        reason: None,
        outcome: None,
        payment_failed: false,
        closes: false,
        refunded_minor: 0,
        shipment: None,
        placed: None,
    }
}

pub(in crate::verify) fn with_reason(kind: OrderEventKind, reason: Reason) -> OrderEvent {
    OrderEvent { reason: Some(reason), ..event(kind) }
}

pub(in crate::verify) fn shipped(shipment: Uuid) -> OrderEvent {
    OrderEvent { shipment: Some(shipment), ..event(ShipmentScheduled) }
}

pub(in crate::verify) fn compensation(
    reason: Reason,
    outcome: OrderStatus,
    payment_failed: bool,
) -> OrderEvent {
    OrderEvent { outcome: Some(outcome), payment_failed, ..with_reason(CompensationStarted, reason) }
}

pub(in crate::verify) fn refund(refunded_minor: i64) -> OrderEvent {
    OrderEvent { refunded_minor, ..event(PaymentRefunded) }
}

impl World {
    pub(super) fn add_orders(&mut self) {
        let paid = || [Placed, StockReserved, PaymentSucceeded, Confirmed].map(event).to_vec();
        let by_customer = Reason::CancelledByCustomer;

        let (id, shipment) = (self.confirmed, Uuid::now_v7());
        let view = View {
            shipment: Some(shipment),
            ..View::of(OrderStatus::Confirmed, StockLeg::Shipped, PaymentLeg::Taken)
        };
        self.order(id, view, [paid(), vec![shipped(shipment)]].concat());
        self.reservation(id, ReservationState::Committed, 2, Some(shipment));
        self.payment(id, PaymentStatus::Succeeded, 2, true);
        self.notifications(id, &[PaymentReceipt, OrderConfirmed, OrderShipped]);

        let id = self.rejected;
        let events = vec![
            event(Placed),
            event(StockReserved),
            compensation(Reason::PaymentDeclined, OrderStatus::Rejected, true),
            event(StockReleased),
            with_reason(Rejected, Reason::PaymentDeclined),
        ];
        let view = View::of(OrderStatus::Rejected, StockLeg::Free, PaymentLeg::Settled);
        self.order(id, view.because(Reason::PaymentDeclined), events);
        self.reservation(id, ReservationState::Released, 2, None);
        self.payment(id, PaymentStatus::Failed, 2, false);
        self.notifications(id, &[OrderRejected]);

        let id = self.out_of_stock;
        let events = vec![event(Placed), with_reason(Rejected, Reason::OutOfStock)];
        let view = View::of(OrderStatus::Rejected, StockLeg::Free, PaymentLeg::NotWanted);
        self.order(id, view.because(Reason::OutOfStock), events);
        self.reservation(id, ReservationState::Rejected, 1, None);
        self.notifications(id, &[OrderRejected]);

        let (id, shipment) = (self.refunded, Uuid::now_v7());
        let events = vec![
            shipped(shipment),
            compensation(by_customer, OrderStatus::Cancelled, false),
            refund(4999),
            event(StockReleased),
            with_reason(Cancelled, by_customer),
        ];
        let view = View {
            shipment: Some(shipment),
            ..View::of(OrderStatus::Cancelled, StockLeg::Free, PaymentLeg::Settled)
        };
        self.order(id, view.because(by_customer), [paid(), events].concat());
        self.reservation(id, ReservationState::Released, 3, Some(shipment));
        self.payment(id, PaymentStatus::Refunded, 4, true);
        let told = [PaymentReceipt, OrderConfirmed, OrderShipped, OrderRefunded, OrderCancelled];
        self.notifications(id, &told);

        let id = self.cancelled;
        let events = vec![
            event(Placed),
            compensation(by_customer, OrderStatus::Cancelled, false),
            event(StockReleased),
            with_reason(Cancelled, by_customer),
        ];
        let view = View::of(OrderStatus::Cancelled, StockLeg::Free, PaymentLeg::NotWanted);
        self.order(id, view.because(by_customer), events);
        self.reservation(id, ReservationState::Released, 2, None);
        self.notifications(id, &[OrderCancelled]);
    }

    /// An order that was shipped, until something has happened to it; billing has its money, inventory has shipped it.
    pub(in crate::verify) fn add_order(
        &mut self,
        view: View,
        more: Vec<OrderEvent>,
        state: ReservationState,
    ) -> Uuid {
        let id = super::order_id();
        let paid = [Placed, StockReserved, PaymentSucceeded, Confirmed].map(event).to_vec();
        self.order(id, view, [paid, more].concat());
        self.reservation(id, state, 1, None);
        self.payment(id, PaymentStatus::Succeeded, 2, true);
        self.notifications(id, &[PaymentReceipt, OrderConfirmed]);
        id
    }

    /// An order from before there was stock, for which some was reserved nevertheless.
    pub(in crate::verify) fn add_order_without_stock(
        &mut self,
        view: View,
        events: Vec<OrderEvent>,
        state: ReservationState,
    ) {
        let id = super::order_id();
        self.order(id, view, events);
        let mut placed = self.facts.order_events.iter_mut().filter(|event| event.order_id == id);
        placed.find_map(|event| event.placed.as_mut()).expect("it was placed").reserves_stock = false;
        self.reservation(id, state, 1, None);
        self.payment(id, PaymentStatus::Succeeded, 2, true);
        self.notifications(id, &[PaymentReceipt, OrderConfirmed]);
    }
}

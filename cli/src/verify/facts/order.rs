//! Orders, and what has happened to them.

use uuid::Uuid;

use super::{Basket, Money, OrderEventKind, OrderStatus, PaymentLeg, Reason, StockLeg};

/// A row of `orders`.
#[derive(Clone, Debug)]
pub(in crate::verify) struct Order {
    pub(in crate::verify) customer_id: String,
    pub(in crate::verify) status: OrderStatus,
    pub(in crate::verify) version: i32,
    pub(in crate::verify) reason: Option<Reason>,
    pub(in crate::verify) attention: Option<Reason>,
    pub(in crate::verify) items: Basket,
    pub(in crate::verify) total: Money,
    pub(in crate::verify) payment_id: Uuid,
    pub(in crate::verify) request_id: Option<Uuid>,
    pub(in crate::verify) stock: StockLeg,
    pub(in crate::verify) payment: PaymentLeg,
    /// How it will end or has ended, once it is undone.
    pub(in crate::verify) outcome: Option<OrderStatus>,
    pub(in crate::verify) shipment: Option<Uuid>,
    /// How long ago the deadline of what it waits for has passed, in milliseconds; negative where it has not.
    pub(in crate::verify) overdue_ms: Option<i64>,
    /// How often what it waits for was asked for again.
    pub(in crate::verify) attempts: i32,
}

/// A row of `order_events`.
#[derive(Clone, Debug)]
pub(in crate::verify) struct OrderEvent {
    pub(in crate::verify) order_id: Uuid,
    pub(in crate::verify) version: i32,
    pub(in crate::verify) kind: OrderEventKind,
    /// When it was written, in milliseconds since 1970.
    pub(in crate::verify) occurred_ms: i64,
    /// Of schema 1, from before there was stock: no event told that a payment was refunded.
    pub(in crate::verify) before_stock: bool,
    pub(in crate::verify) reason: Option<Reason>,
    /// Of a compensation: how it will end.
    pub(in crate::verify) outcome: Option<OrderStatus>,
    /// Of a compensation: there is nothing to refund.
    pub(in crate::verify) payment_failed: bool,
    /// Of an operator's decision: the order ends as it is.
    pub(in crate::verify) closes: bool,
    /// Of a refund.
    pub(in crate::verify) refunded_minor: i64,
    pub(in crate::verify) shipment: Option<Uuid>,
    /// Of an `OrderPlaced` that has all of it.
    pub(in crate::verify) placed: Option<Box<Placed>>,
}

#[derive(Clone, Debug)]
pub(in crate::verify) struct Placed {
    pub(in crate::verify) customer_id: String,
    pub(in crate::verify) items: Basket,
    pub(in crate::verify) total: Money,
    pub(in crate::verify) payment_id: Uuid,
    pub(in crate::verify) reserves_stock: bool,
}

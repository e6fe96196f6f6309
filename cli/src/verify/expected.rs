//! Which records must exist, derived from what the services have persisted as truth, never from an outbox.

use super::{
    facts::{
        EventType, Listed, NotificationKind, OrderEvent, OrderEventKind, OrderStatus, Payment, PaymentLeg,
        PaymentStatus, Record, Reservation, ReservationState, StockLeg, Topic,
    },
    saga::Saga,
};

/// A record that must exist with the version that caused it; its type is one of these.
pub(super) type Expected = (Topic, i32, &'static [EventType]);

/// What an event of an order causes, given the order before it.
pub(super) fn of_order_event(before: &Saga<'_>, event: &OrderEvent) -> Vec<(Topic, &'static [EventType])> {
    use EventType::{
        CommitStock, NotificationRequested, OrderCreated, PaymentRequested, RefundRequested, ReleaseStock,
        ReserveStock,
    };
    let after = before.after(event);
    let repeats = event.kind == OrderEventKind::RequestsRepeated;
    let began = |was: bool, is: bool| is && (repeats || !was);
    let is_releasing = |saga: &Saga<'_>| saga.stock == StockLeg::Releasing;
    let is_refunding = |saga: &Saga<'_>| saga.payment == PaymentLeg::Refunding;
    let is_shippable = after.status == OrderStatus::Confirmed && after.stock == StockLeg::Reserved;

    let mut records: Vec<(Topic, &'static [EventType])> = Vec::new();
    match announced(event) {
        Some(announced) => records.push((Topic::OrderStatus, announced)),
        None if event.kind == OrderEventKind::Placed => records.push((Topic::OrderCreated, &[OrderCreated])),
        None => {}
    }
    if event.kind == OrderEventKind::Placed && after.stock == StockLeg::Requested {
        records.push((Topic::StockRequests, &[ReserveStock]));
    }
    if is_shippable && (repeats || event.kind == OrderEventKind::Confirmed) {
        records.push((Topic::StockRequests, &[CommitStock]));
    }
    if began(is_releasing(before), is_releasing(&after)) {
        records.push((Topic::StockRequests, &[ReleaseStock]));
    }
    if before.payment != PaymentLeg::Requested && after.payment == PaymentLeg::Requested {
        records.push((Topic::PaymentRequests, &[PaymentRequested]));
    }
    if began(is_refunding(before), is_refunding(&after)) {
        records.push((Topic::PaymentRequests, &[RefundRequested]));
    }
    if told(event).is_some() {
        records.push((Topic::NotificationEvents, &[NotificationRequested]));
    }
    records
}

/// What an event of an order tells everybody who watches it.
fn announced(event: &OrderEvent) -> Option<&'static [EventType]> {
    use EventType::{
        OrderCancelled, OrderCompensating, OrderConfirmed, OrderNeedsAttention, OrderPaid, OrderProgressed,
        OrderRejected, OrderShipped, OrderStockReserved,
    };
    Some(match event.kind {
        OrderEventKind::Placed => return None,
        OrderEventKind::LatePaymentFound if event.before_stock => return None,
        OrderEventKind::StockReserved => &[OrderStockReserved],
        OrderEventKind::PaymentSucceeded => &[OrderPaid],
        OrderEventKind::Confirmed => &[OrderConfirmed],
        OrderEventKind::ShipmentScheduled => &[OrderShipped],
        OrderEventKind::Rejected => &[OrderRejected],
        OrderEventKind::CompensationStarted | OrderEventKind::CancellationRequested => &[OrderCompensating],
        OrderEventKind::Cancelled => &[OrderCancelled],
        OrderEventKind::AttentionNeeded => &[OrderNeedsAttention],
        OrderEventKind::StockReleased
        | OrderEventKind::PaymentRefunded
        | OrderEventKind::LatePaymentFound
        | OrderEventKind::LateStockFound
        | OrderEventKind::RequestsRepeated
        | OrderEventKind::Resolved => &[OrderProgressed],
    })
}

/// What an event of an order has the customer told.
pub(super) fn told(event: &OrderEvent) -> Option<NotificationKind> {
    match event.kind {
        OrderEventKind::Confirmed => Some(NotificationKind::OrderConfirmed),
        OrderEventKind::ShipmentScheduled => Some(NotificationKind::OrderShipped),
        OrderEventKind::Rejected => Some(NotificationKind::OrderRejected),
        OrderEventKind::Cancelled => Some(NotificationKind::OrderCancelled),
        OrderEventKind::PaymentRefunded if event.refunded_minor > 0 => Some(NotificationKind::OrderRefunded),
        _ => None,
    }
}

/// What inventory has answered: each version is an answer, and the present state tells which ones it may have been.
pub(super) fn of_reservation(reservation: &Reservation) -> impl Iterator<Item = Expected> + use<> {
    use EventType::{CommitFailed, ShipmentScheduled, StockRejected, StockReleased, StockReserved};
    let (state, last) = (reservation.state, reservation.version);
    (1..=last).map(move |at| {
        let answers: &[EventType] = match state {
            ReservationState::Reserved => &[StockReserved],
            ReservationState::Rejected => &[StockRejected, CommitFailed],
            ReservationState::Committed if at == 1 => &[StockReserved],
            ReservationState::Committed => &[ShipmentScheduled, StockReserved],
            ReservationState::Released if at == 1 && at == last => &[StockReleased],
            ReservationState::Released if at == 1 => {
                &[StockReserved, StockRejected, StockReleased, CommitFailed]
            }
            ReservationState::Released if at == last => &[StockReleased, StockRejected, CommitFailed],
            ReservationState::Released => {
                &[ShipmentScheduled, StockReserved, StockRejected, StockReleased, CommitFailed]
            }
        };
        (Topic::StockResults, at, answers)
    })
}

/// The announcements of a product, each with a moment before which it was not made.
pub(super) fn of_product(listed: &Listed) -> impl Iterator<Item = (Expected, i64)> + use<> {
    let (version, created_ms, announced_ms) = (listed.offer.version, listed.created_ms, listed.announced_ms);
    (1..=version).map(move |at| {
        let since_ms = if at == version { announced_ms } else { created_ms };
        ((Topic::ProductEvents, at, &[EventType::ProductUpserted][..]), since_ms)
    })
}

/// What a payment's past has caused. Only its present is stored, and that tells its past: versions count transitions,
/// there is a reference exactly where money was taken, and a refund owed comes right after the success. How often a
/// refund was confirmed again it does not tell apart from what was before the success: there the order's records in
/// payment-results say when that was.
pub(super) fn of_payment(payment: &Payment, results: &[Record]) -> Vec<Expected> {
    use EventType::{NotificationRequested, PaymentFailed, PaymentRefunded, PaymentSucceeded};
    use Topic::{NotificationEvents, PaymentResults};
    let version = payment.version;
    let result = |at: i32, types: &'static [EventType]| (PaymentResults, at, types);
    let mut expected: Vec<Expected> = Vec::new();
    if let Some(succeeded) = succeeded_at(payment, results) {
        // Version 1 is the request. Between it and a late success lie refusals, which the row does not remember apart.
        expected.extend((2..succeeded).map(|at| result(at, &[PaymentFailed, PaymentRefunded])));
        expected.push(result(succeeded, &[PaymentSucceeded]));
        expected.push((NotificationEvents, succeeded, &[NotificationRequested]));
        if payment.status == PaymentStatus::Refunded {
            expected.extend((succeeded + 2..=version).map(|at| result(at, &[PaymentRefunded])));
        }
        return expected;
    }
    // Refused by whoever took the request, or by whoever was to carry it out.
    let failed = payment.failed.then_some(if payment.untried { 1 } else { 2 });
    match payment.status {
        PaymentStatus::Failed => expected.push(result(version, &[PaymentFailed])),
        PaymentStatus::Refunded => {
            let first = if payment.is_tombstone() { 1 } else { failed.unwrap_or(1) + 1 };
            expected.extend(failed.map(|at| result(at, &[PaymentFailed])));
            expected.extend((first..=version).map(|at| result(at, &[PaymentRefunded])));
        }
        PaymentStatus::Pending | PaymentStatus::Succeeded | PaymentStatus::Refunding => {}
    }
    expected
}

/// The version with which money was taken.
fn succeeded_at(payment: &Payment, results: &[Record]) -> Option<i32> {
    let version = payment.version;
    match payment.status {
        PaymentStatus::Succeeded => Some(version),
        PaymentStatus::Refunding => Some(version - 1),
        PaymentStatus::Refunded if payment.reference.is_some() => {
            let told = results.iter().find(|record| record.event_type == EventType::PaymentSucceeded);
            let told = told.and_then(|record| i32::try_from(record.sequence).ok());
            Some(told.filter(|at| (2..=version - 2).contains(at)).unwrap_or(2))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;

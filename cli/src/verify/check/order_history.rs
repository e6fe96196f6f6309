//! The events of every order are 1..n without a gap, each fits what was before it, and together they give the row of
//! `orders`.

use std::collections::HashSet;

use uuid::Uuid;

use crate::verify::{
    facts::{Facts, Order, OrderEvent, OrderEventKind, OrderStatus, PaymentLeg, StockLeg},
    report::Invariant,
    saga::{Saga, steps},
};

pub(super) fn check(facts: &Facts, invariant: &mut Invariant) {
    let mut with_history: HashSet<Uuid> = HashSet::with_capacity(facts.orders.len());
    for events in facts.order_events.chunk_by(|one, next| one.order_id == next.order_id) {
        let order_id = events[0].order_id;
        invariant.checked += 1;
        with_history.insert(order_id);
        let problem = match facts.orders.get(&order_id) {
            None => Err(format!("has {} events and no row in orders", events.len())),
            Some(order) => unbroken(events).and_then(|()| compare(&Saga::of(events), events.len(), order)),
        };
        if let Err(problem) = problem {
            invariant.offend(format_args!("order {order_id}"), problem);
        }
    }
    for order_id in facts.orders.keys().filter(|id| !with_history.contains(*id)) {
        invariant.checked += 1;
        invariant.offend(format_args!("order {order_id}"), "has a row in orders and no event");
    }
}

fn unbroken(events: &[OrderEvent]) -> Result<(), String> {
    for ((before, event), version) in steps(events).zip(1..) {
        if event.version != version {
            return Err(format!("version {version} is missing, {} follows", event.version));
        }
        if !fits(&before, event, version) {
            let (status, stock, payment) = (before.status, before.stock, before.payment);
            let was = format!("it is {status}, its stock {stock}, its payment {payment}");
            return Err(format!("version {version} is {} where {was}", event.kind));
        }
    }
    Ok(())
}

/// Whether an event may follow: each answer where it is waited for, and an end where nothing is.
fn fits(before: &Saga<'_>, event: &OrderEvent, version: i32) -> bool {
    use OrderStatus::{Cancelled, Compensating, Confirmed, NeedsAttention, Paid, Pending, Rejected};
    let has_ended = matches!(before.status, Rejected | Cancelled);
    if version == 1 {
        return event.kind == OrderEventKind::Placed;
    }
    match event.kind {
        OrderEventKind::Placed => false,
        OrderEventKind::StockReserved => before.status == Pending && before.stock == StockLeg::Requested,
        OrderEventKind::PaymentSucceeded => before.payment == PaymentLeg::Requested,
        OrderEventKind::Confirmed => before.status == Paid,
        OrderEventKind::ShipmentScheduled => {
            matches!(before.status, Confirmed | NeedsAttention) && before.stock == StockLeg::Reserved
        }
        OrderEventKind::Rejected | OrderEventKind::Cancelled => {
            let by_answer = matches!(before.status, Compensating | NeedsAttention) && !before.is_owed();
            let refused = event.kind == OrderEventKind::Rejected && before.status == Pending;
            // Before there was stock, a refund's answer was no event; and an operator's word ends whatever there is.
            by_answer || refused || !has_ended && (event.before_stock || before.closed)
        }
        OrderEventKind::CompensationStarted | OrderEventKind::CancellationRequested => !has_ended,
        OrderEventKind::StockReleased => before.stock == StockLeg::Releasing,
        OrderEventKind::PaymentRefunded => before.payment == PaymentLeg::Refunding,
        OrderEventKind::LatePaymentFound => {
            matches!(before.payment, PaymentLeg::NotWanted | PaymentLeg::Settled)
        }
        OrderEventKind::LateStockFound => matches!(before.stock, StockLeg::NotWanted | StockLeg::Free),
        OrderEventKind::RequestsRepeated | OrderEventKind::AttentionNeeded => before.waits(),
        OrderEventKind::Resolved => before.status == NeedsAttention,
    }
}

fn compare(saga: &Saga<'_>, events: usize, order: &Order) -> Result<(), String> {
    let mut differences = Vec::new();
    let mut same = |name: &str, row: String, history: String| {
        if row != history {
            differences.push(format!("{name} is {row}, its events say {history}"));
        }
    };
    same("status", order.status.to_string(), saga.status.to_string());
    same("version", order.version.to_string(), events.to_string());
    same("status_reason", or_none(order.reason), or_none(saga.reason));
    same("attention", or_none(order.attention), or_none(saga.attention));
    same("stock", order.stock.to_string(), saga.stock.to_string());
    same("payment", order.payment.to_string(), saga.payment.to_string());
    same("outcome", or_none(order.outcome), or_none(saga.outcome));
    same("shipment", or_none(order.shipment), or_none(saga.shipment));
    match saga.placed {
        None => differences.push("OrderPlaced has no customer, items, total or payment".to_owned()),
        Some(placed) => {
            same("customer_id", order.customer_id.clone(), placed.customer_id.clone());
            same("items", order.items.to_string(), placed.items.to_string());
            same("total", order.total.to_string(), placed.total.to_string());
            same("payment_id", order.payment_id.to_string(), placed.payment_id.to_string());
        }
    }
    match (order.overdue_ms, saga.waits()) {
        (None, true) => differences.push("it waits for an answer, and has no deadline".to_owned()),
        (Some(_), false) => differences.push("it waits for nothing, and has a deadline".to_owned()),
        _ => {}
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join("; ")) }
}

fn or_none(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

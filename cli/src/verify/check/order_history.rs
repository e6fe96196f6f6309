//! The events of every order are 1..n without a gap, and folding them gives the row of `orders`.

use std::collections::HashSet;

use uuid::Uuid;

use crate::verify::{
    facts::{Facts, Order, OrderEvent, OrderEventKind, OrderStatus},
    report::Invariant,
};

pub(super) fn check(facts: &Facts, invariant: &mut Invariant) {
    let mut with_history: HashSet<Uuid> = HashSet::with_capacity(facts.orders.len());
    for events in facts.order_events.chunk_by(|one, next| one.order_id == next.order_id) {
        let order_id = events[0].order_id;
        invariant.checked += 1;
        with_history.insert(order_id);
        let problem = match facts.orders.get(&order_id) {
            None => Err(format!("has {} events and no row in orders", events.len())),
            Some(order) => fold(events).and_then(|folded| compare(&folded, events, order)),
        };
        if let Err(problem) = problem {
            invariant.offend(format_args!("order {order_id}"), problem);
        }
    }
    for order_id in facts.orders.keys().filter(|id| !with_history.contains(*id)) {
        invariant.checked += 1;
        invariant.offend(format_args!("order {order_id}"), "has a row in orders and no event");
    }
    let parked = facts.orders.values().filter(|order| order.status == OrderStatus::NeedsAttention).count();
    if parked > 0 {
        invariant.note(format!("{parked} orders wait for an operator (NEEDS_ATTENTION)"));
    }
}

struct Folded<'a> {
    status: OrderStatus,
    reason: Option<&'a str>,
}

fn fold(events: &[OrderEvent]) -> Result<Folded<'_>, String> {
    let mut state: Option<Folded<'_>> = None;
    for (event, version) in events.iter().zip(1..) {
        if event.version != version {
            return Err(format!("version {version} is missing, {} follows", event.version));
        }
        state = Some(evolve(state, event).map_err(|problem| format!("version {version}: {problem}"))?);
    }
    state.ok_or_else(|| "has no event".to_owned())
}

fn evolve<'a>(state: Option<Folded<'a>>, event: &'a OrderEvent) -> Result<Folded<'a>, String> {
    let Some(before) = state else {
        return match event.kind {
            OrderEventKind::Placed => Ok(Folded { status: OrderStatus::Pending, reason: None }),
            other => Err(format!("{other} before OrderPlaced")),
        };
    };
    let status = match event.kind {
        OrderEventKind::Placed => return Err("OrderPlaced again".to_owned()),
        OrderEventKind::LatePaymentFound => before.status,
        _ if matches!(before.status, OrderStatus::Rejected | OrderStatus::Cancelled) => {
            return Err(format!("{} after {}", event.kind, before.status));
        }
        OrderEventKind::PaymentSucceeded => OrderStatus::Paid,
        OrderEventKind::Confirmed => OrderStatus::Confirmed,
        OrderEventKind::Rejected => OrderStatus::Rejected,
        OrderEventKind::CancellationRequested => OrderStatus::Compensating,
        OrderEventKind::Cancelled => OrderStatus::Cancelled,
    };
    Ok(Folded { status, reason: event.reason.as_deref().or(before.reason) })
}

fn compare(folded: &Folded<'_>, events: &[OrderEvent], order: &Order) -> Result<(), String> {
    let mut differences = Vec::new();
    let mut same = |name: &str, row: &str, history: &str| {
        if row != history {
            differences.push(format!("{name} is {row}, its events say {history}"));
        }
    };
    same("status", order.status.name(), folded.status.name());
    same("version", &order.version.to_string(), &events.len().to_string());
    same("status_reason", order.reason.as_deref().unwrap_or("none"), folded.reason.unwrap_or("none"));
    match &events[0].placed {
        None => differences.push("OrderPlaced has no customer, total or payment".to_owned()),
        Some(placed) => {
            same("customer_id", &order.customer_id, &placed.customer_id);
            same("total", &order.total.to_string(), &placed.total.to_string());
            same("payment_id", &order.payment_id.to_string(), &placed.payment_id.to_string());
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join("; ")) }
}

//! Every order that waits for an answer has a deadline that is kept, and whoever waits for an operator is named.

use crate::verify::{
    facts::{Facts, OrderStatus},
    report::Invariant,
    saga,
};

/// How late the service may be, which looks for deadlines now and then.
const PATIENCE_MS: i64 = 60_000;
/// Orders that are named as waiting for an operator.
const NAMED: usize = 10;

pub(super) fn check(facts: &Facts, invariant: &mut Invariant) {
    let sagas = saga::all(&facts.order_events);
    let mut parked = Vec::new();
    for (id, order) in &facts.orders {
        invariant.checked += 1;
        let subject = format_args!("order {id}");
        if let Some(overdue_ms) = order.overdue_ms.filter(|overdue_ms| *overdue_ms > PATIENCE_MS) {
            let (status, seconds) = (order.status, overdue_ms / 1000);
            invariant.offend(subject, format_args!("is {status}, and its deadline passed {seconds} s ago"));
        }
        if let Some(saga) = sagas.get(id) {
            invariant.expect(order.attempts == saga.repeats, subject, || {
                let (row, history) = (order.attempts, saga.repeats);
                format!("has asked again {row} times, its events say {history}")
            });
        }
        if order.status == OrderStatus::NeedsAttention {
            parked.push((id, order.attention.or(order.reason)));
        }
    }
    parked.sort_unstable();
    for (id, reason) in parked.iter().take(NAMED) {
        let why = reason.map_or("no reason", |reason| reason.name());
        invariant.note(format!("order {id} waits for an operator (NEEDS_ATTENTION): {why}"));
    }
    if parked.len() > NAMED {
        invariant.note(format!("and {} more wait for an operator", parked.len() - NAMED));
    }
}

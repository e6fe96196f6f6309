//! Every order that a load run saw acknowledged exists as it was acknowledged, and its request has made no other.

use std::collections::HashMap;

use uuid::Uuid;

use crate::verify::{
    facts::{Facts, Order},
    report::Invariant,
};

pub(super) fn check(facts: &Facts, invariant: &mut Invariant) {
    let made = made(facts);
    for acked in &facts.acked.orders {
        invariant.checked += 1;
        let subject = format!("order {} of run {}", acked.order_id, acked.run);
        let request = (acked.customer_id.as_str(), acked.request_id);
        for other in made.get(&request).into_iter().flatten().filter(|made| **made != acked.order_id) {
            let id = acked.request_id;
            invariant.offend(&subject, format_args!("its request {id} has made order {other}, too"));
        }
        match facts.orders.get(&acked.order_id) {
            None => invariant.offend(subject, "was acknowledged and does not exist"),
            Some(order) if order.customer_id != acked.customer_id => {
                let (now, then) = (&order.customer_id, &acked.customer_id);
                invariant.offend(subject, format_args!("is of customer {now}, acknowledged to {then}"));
            }
            Some(order) if order.request_id != Some(acked.request_id) => {
                let now = order.request_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
                let then = acked.request_id;
                invariant.offend(subject, format_args!("is of request {now}, acknowledged to {then}"));
            }
            Some(order) => invariant.expect(order.total == acked.total, subject, || {
                format!("is over {}, acknowledged over {}", order.total, acked.total)
            }),
        }
    }
    let (files, others) = (facts.acked.files, facts.acked.other_files);
    if others > 0 {
        invariant.note(format!("{others} of {} runs were made against another cluster", files + others));
    }
}

/// The orders that each request of a customer has made.
fn made(facts: &Facts) -> HashMap<(&str, Uuid), Vec<Uuid>> {
    let mut made = HashMap::<_, Vec<Uuid>>::with_capacity(facts.orders.len());
    for (id, Order { customer_id, request_id, .. }) in &facts.orders {
        if let Some(request_id) = request_id {
            made.entry((customer_id.as_str(), *request_id)).or_default().push(*id);
        }
    }
    made
}

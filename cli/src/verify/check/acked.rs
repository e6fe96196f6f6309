//! Every order that a load run saw acknowledged exists as it was acknowledged.

use crate::verify::{facts::Facts, report::Invariant};

pub(super) fn check(facts: &Facts, invariant: &mut Invariant) {
    for acked in &facts.acked.orders {
        invariant.checked += 1;
        let subject = format_args!("order {} of run {}", acked.order_id, acked.run);
        match facts.orders.get(&acked.order_id) {
            None => invariant.offend(subject, "was acknowledged and does not exist"),
            Some(order) if order.customer_id != acked.customer_id => {
                let (now, then) = (&order.customer_id, &acked.customer_id);
                invariant.offend(subject, format_args!("is of customer {now}, acknowledged to {then}"));
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

//! Money that is taken twice, for nothing, or not given back.

use uuid::Uuid;

use super::{broken, world::World};
use crate::verify::facts::PaymentStatus;

#[test]
fn payments() {
    let payment = |w: &World, order| w.facts.orders[&order].payment_id;
    // Charged twice at the provider, which no database here can see.
    broken(
        |w| {
            let id = payment(w, w.confirmed);
            let lines = w.facts.provider.get_mut(&id).expect("there");
            lines.charges.push(lines.charges[0].clone());
        },
        &[("payments", "was charged 2 times at the provider")],
    );
    broken(
        |w| {
            let id = payment(w, w.refunded);
            w.facts.provider.get_mut(&id).expect("there").refunds.clear();
        },
        &[("payments", "is REFUNDED and was refunded 0 times")],
    );
    broken(
        |w| {
            let id = payment(w, w.confirmed);
            w.facts.provider.get_mut(&id).expect("there").charges[0].0.minor = 1;
        },
        &[("payments", "is EUR 4999 and was charged EUR 1")],
    );
    broken(
        |w| {
            let id = payment(w, w.confirmed);
            let lines = w.facts.provider[&id].clone();
            w.facts.provider.insert(Uuid::now_v7(), lines);
        },
        &[("payments", "1 charges, 0 refunds, 0 declines without a payment")],
    );
    broken(
        |w| w.facts.postings[0].amount.minor += 1,
        &[("payments", "sums to EUR 1, not to 0"), ("payments", "has a charge of 5000 on PROVIDER_CLEARING")],
    );
    broken(
        |w| {
            let order = w.rejected;
            w.facts.payments.retain(|payment| payment.order_id != order);
        },
        &[
            ("events-published", "PaymentFailed that nothing has caused"),
            ("payments", "is REJECTED and has no payment"),
        ],
    );
    // Out of stock, and charged.
    broken(
        |w| {
            let order = w.out_of_stock;
            let mut payment = w.payment_of(w.rejected).clone();
            (payment.id, payment.order_id) = (w.facts.orders[&order].payment_id, order);
            let lines = w.facts.provider[&w.facts.orders[&w.rejected].payment_id].clone();
            w.facts.provider.insert(payment.id, lines);
            w.facts.payments.push(payment);
        },
        &[
            ("events-published", "missing orderly.billing.v1.PaymentFailed"),
            ("payments", "its order has never asked for it"),
        ],
    );
    broken(
        |w| {
            let refunds = w.facts.order_events.iter_mut();
            refunds.for_each(|event| event.refunded_minor = event.refunded_minor.min(1));
        },
        &[("payments", "gave back 4999, its order was told 1")],
    );
    // Cancelled, and the money was kept.
    broken(
        |w| {
            let order = w.refunded;
            let payment = w.payment_of(order);
            (payment.status, payment.version, payment.refunded_minor) = (PaymentStatus::Succeeded, 2, 0);
        },
        &[
            ("events-published", "PaymentRefunded that nothing has caused"),
            ("payments", "is SUCCEEDED, its order CANCELLED"),
        ],
    );
    // Half of it went back, and everybody agrees on that.
    broken(
        |w| {
            let (id, half) = (payment(w, w.refunded), 2499);
            w.payment_of(w.refunded).refunded_minor = half;
            let refunds = w.facts.order_events.iter_mut().filter(|event| event.refunded_minor > 0);
            refunds.for_each(|event| event.refunded_minor = half);
            let postings = w.facts.postings.iter_mut().filter(|one| one.payment_id == id && one.refund);
            postings.for_each(|one| one.amount.minor = one.amount.minor.signum() * half);
            w.facts.provider.get_mut(&id).expect("there").refunds[0].minor = half;
        },
        &[("payments", "is REFUNDED, and gave back 2499 of 4999")],
    );
    broken(
        |w| w.payment_of(w.rejected).refunded_minor = 1,
        &[("payments", "is FAILED, and gave back 1 of 0")],
    );
    broken(
        |w| {
            let order = w.confirmed;
            let second = w.payment_of(order).clone();
            w.facts.payments.push(second);
        },
        &[("payments", "is the second payment of its order")],
    );
}

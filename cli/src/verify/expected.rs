//! Which records must exist, derived from what the services have persisted as truth, never from an outbox.

use super::facts::{EventType, OrderEventKind, Payment, PaymentStatus, Topic};

/// A record that must exist with the version that caused it; its type is one of these.
pub(super) type Expected = (Topic, i32, &'static [EventType]);

/// What an order event causes.
pub(super) fn of_order_event(kind: OrderEventKind) -> &'static [(Topic, &'static [EventType])] {
    use EventType::{
        NotificationRequested, OrderCancelled, OrderCompensating, OrderConfirmed, OrderCreated, OrderPaid,
        OrderRejected, PaymentRequested, RefundRequested,
    };
    use Topic::{NotificationEvents, OrderStatus, PaymentRequests};
    match kind {
        OrderEventKind::Placed => {
            &[(Topic::OrderCreated, &[OrderCreated]), (PaymentRequests, &[PaymentRequested])]
        }
        OrderEventKind::PaymentSucceeded => &[(OrderStatus, &[OrderPaid])],
        OrderEventKind::Confirmed => {
            &[(OrderStatus, &[OrderConfirmed]), (NotificationEvents, &[NotificationRequested])]
        }
        OrderEventKind::Rejected => {
            &[(OrderStatus, &[OrderRejected]), (NotificationEvents, &[NotificationRequested])]
        }
        OrderEventKind::CancellationRequested => {
            &[(OrderStatus, &[OrderCompensating]), (PaymentRequests, &[RefundRequested])]
        }
        OrderEventKind::Cancelled => {
            &[(OrderStatus, &[OrderCancelled]), (NotificationEvents, &[NotificationRequested])]
        }
        OrderEventKind::LatePaymentFound => &[(PaymentRequests, &[RefundRequested])],
    }
}

/// What a payment's past has caused. Only its present is stored, and that tells its past: versions count transitions,
/// there is a reference exactly where money was taken, and a refund owed comes right after the success.
pub(super) fn of_payment(payment: &Payment) -> Vec<Expected> {
    use EventType::{NotificationRequested, PaymentFailed, PaymentRefunded, PaymentSucceeded};
    use Topic::{NotificationEvents, PaymentResults};
    let version = payment.version;
    let taken = payment.reference.is_some();
    let succeeded = match payment.status {
        PaymentStatus::Succeeded => Some(version),
        PaymentStatus::Refunding => Some(version - 1),
        PaymentStatus::Refunded if taken => Some(version - 2),
        _ => None,
    };
    let mut expected: Vec<Expected> = Vec::new();
    if let Some(succeeded) = succeeded {
        // Version 1 is the request. Between it and a late success lie refusals, which the row does not remember apart.
        expected.extend((2..succeeded).map(|at| (PaymentResults, at, &[PaymentFailed, PaymentRefunded][..])));
        expected.push((PaymentResults, succeeded, &[PaymentSucceeded]));
        expected.push((NotificationEvents, succeeded, &[NotificationRequested]));
    }
    match payment.status {
        PaymentStatus::Failed => expected.push((PaymentResults, version, &[PaymentFailed])),
        PaymentStatus::Refunded => {
            if !taken && payment.failed {
                expected.push((PaymentResults, version - 1, &[PaymentFailed]));
            }
            expected.push((PaymentResults, version, &[PaymentRefunded]));
        }
        PaymentStatus::Pending | PaymentStatus::Succeeded | PaymentStatus::Refunding => {}
    }
    expected
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::verify::facts::Money;

    fn payment(status: PaymentStatus, version: i32, taken: bool, failed: bool) -> Payment {
        Payment {
            id: Uuid::now_v7(),
            order_id: Uuid::now_v7(),
            customer_id: "c".to_owned(),
            amount: Money { currency: "EUR".to_owned(), minor: 1 },
            status,
            failed,
            version,
            reference: taken.then(|| "ch".to_owned()),
            refunded_minor: 0,
        }
    }

    #[test]
    fn every_path_of_a_payment() {
        use PaymentStatus::{Failed, Pending, Refunded, Refunding, Succeeded};
        let cases: [(Payment, &[(i32, &str)]); 10] = [
            (payment(Pending, 1, false, false), &[]),
            (payment(Succeeded, 2, true, false), &[(2, "PaymentSucceeded"), (2, "NotificationRequested")]),
            (payment(Refunding, 3, true, false), &[(2, "PaymentSucceeded"), (2, "NotificationRequested")]),
            (
                payment(Refunded, 4, true, false),
                &[(2, "PaymentSucceeded"), (2, "NotificationRequested"), (4, "PaymentRefunded")],
            ),
            (payment(Failed, 1, false, true), &[(1, "PaymentFailed")]),
            (payment(Failed, 2, false, true), &[(2, "PaymentFailed")]),
            // A tombstone, a refund before the first call, and one after a refusal.
            (payment(Refunded, 1, false, false), &[(1, "PaymentRefunded")]),
            (payment(Refunded, 2, false, false), &[(2, "PaymentRefunded")]),
            (payment(Refunded, 3, false, true), &[(2, "PaymentFailed"), (3, "PaymentRefunded")]),
            // Refused, then found charged after all.
            (
                payment(Refunding, 4, true, false),
                &[(2, "PaymentFailed"), (3, "PaymentSucceeded"), (3, "NotificationRequested")],
            ),
        ];
        for (payment, wanted) in cases {
            let got: Vec<(i32, &str)> = of_payment(&payment)
                .into_iter()
                .map(|(_, at, types)| (at, types[0].name().rsplit('.').next().unwrap_or_default()))
                .collect();
            assert_eq!(got, wanted, "{payment:?}");
        }
    }
}

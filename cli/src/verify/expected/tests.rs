//! Every way of an order, a reservation and a payment, with all that it causes.

use uuid::Uuid;

use super::*;
use crate::verify::{
    facts::{self, Basket, Money, Reason},
    saga::steps,
};

fn payment(status: PaymentStatus, version: i32, taken: bool, failed: bool) -> Payment {
    Payment {
        id: Uuid::now_v7(),
        order_id: Uuid::now_v7(),
        customer_id: "c".to_owned(),
        amount: Money { currency: "EUR".to_owned(), minor: 1 },
        status,
        failed,
        untried: version < 2,
        version,
        reference: taken.then(|| "ch".to_owned()),
        refunded_minor: 0,
        updated_ms: 0,
    }
}

/// A refund that came before any request.
fn tombstone(version: i32) -> Payment {
    let amount = Money { currency: "XXX".to_owned(), minor: 0 };
    Payment { amount, untried: true, ..payment(PaymentStatus::Refunded, version, false, false) }
}

#[test]
fn every_path_of_a_payment() {
    use PaymentStatus::{Failed, Pending, Refunded, Refunding, Succeeded};
    let expired = Payment { untried: true, ..payment(Refunded, 3, false, true) };
    let cases: [(Payment, &[(i32, &str)]); 13] = [
        (payment(Pending, 1, false, false), &[]),
        (payment(Succeeded, 2, true, false), &[(2, "PaymentSucceeded"), (2, "NotificationRequested")]),
        (payment(Refunding, 3, true, false), &[(2, "PaymentSucceeded"), (2, "NotificationRequested")]),
        (
            payment(Refunded, 4, true, false),
            &[(2, "PaymentSucceeded"), (2, "NotificationRequested"), (4, "PaymentRefunded")],
        ),
        (payment(Failed, 1, false, true), &[(1, "PaymentFailed")]),
        (payment(Failed, 2, false, true), &[(2, "PaymentFailed")]),
        // A refund before the first call, and one after a refusal.
        (payment(Refunded, 2, false, false), &[(2, "PaymentRefunded")]),
        (payment(Refunded, 3, false, true), &[(2, "PaymentFailed"), (3, "PaymentRefunded")]),
        // Asked for again, and confirmed.
        (tombstone(2), &[(1, "PaymentRefunded"), (2, "PaymentRefunded")]),
        (payment(Refunded, 3, false, false), &[(2, "PaymentRefunded"), (3, "PaymentRefunded")]),
        (expired, &[(1, "PaymentFailed"), (2, "PaymentRefunded"), (3, "PaymentRefunded")]),
        (
            payment(Refunded, 5, true, false),
            &[
                (2, "PaymentSucceeded"),
                (2, "NotificationRequested"),
                (4, "PaymentRefunded"),
                (5, "PaymentRefunded"),
            ],
        ),
        // Refused, then found charged after all.
        (
            payment(Refunding, 4, true, false),
            &[(2, "PaymentFailed"), (3, "PaymentSucceeded"), (3, "NotificationRequested")],
        ),
    ];
    for (payment, wanted) in cases {
        assert_eq!(results(&payment, &[]), wanted, "{payment:?}");
    }
}

#[test]
fn a_record_tells_when_a_payment_has_succeeded_where_its_row_does_not() {
    let record = |sequence| Record {
        topic: Topic::PaymentResults,
        partition: 0,
        offset: 0,
        key: facts::Key::Order(Uuid::nil()),
        source: facts::Source::Billing,
        event_type: EventType::PaymentSucceeded,
        sequence,
        id: Uuid::nil(),
        digest: [0; 16],
    };
    let payment = payment(PaymentStatus::Refunded, 5, true, false);
    let late =
        [(2, "PaymentFailed"), (3, "PaymentSucceeded"), (3, "NotificationRequested"), (5, "PaymentRefunded")];
    assert_eq!(results(&payment, &[record(3)]), late);
    // Nobody can have sent this.
    assert_eq!(results(&payment, &[record(4)]), results(&payment, &[]));
}

fn results(payment: &Payment, records: &[Record]) -> Vec<(i32, &'static str)> {
    let short = |(_, at, types): Expected| (at, types[0].name().rsplit('.').next().unwrap_or_default());
    of_payment(payment, records).into_iter().map(short).collect()
}

/// An event of an order that says nothing but its name.
fn event(kind: OrderEventKind) -> OrderEvent {
    OrderEvent {
        order_id: Uuid::nil(),
        version: 1,
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

fn compensation(payment_failed: bool) -> OrderEvent {
    OrderEvent { payment_failed, ..event(OrderEventKind::CompensationStarted) }
}

fn refund(refunded_minor: i64) -> OrderEvent {
    OrderEvent { refunded_minor, ..event(OrderEventKind::PaymentRefunded) }
}

/// The types of the records that each event causes, and the legs at the end.
fn story(events: &[OrderEvent]) -> (Vec<String>, StockLeg, PaymentLeg) {
    let short = |types: &[EventType]| {
        assert_eq!(types.len(), 1, "an order's events leave no choice");
        types[0].name().rsplit('.').next().unwrap_or_default().to_owned()
    };
    let causes = |(before, event): (Saga<'_>, &OrderEvent)| {
        let records = of_order_event(&before, event);
        let mut topics: Vec<_> = records.iter().map(|(topic, _)| *topic).collect();
        topics.dedup();
        assert_eq!(topics.len(), records.len(), "two records of one version in a topic");
        records.iter().map(|(_, types)| short(types)).collect::<Vec<_>>().join(" ")
    };
    let end = Saga::of(events);
    (steps(events).map(causes).collect(), end.stock, end.payment)
}

#[test]
fn an_order_that_goes_well() {
    use OrderEventKind::{Confirmed, PaymentSucceeded, Placed, ShipmentScheduled, StockReserved};
    let events = [Placed, StockReserved, PaymentSucceeded, Confirmed, ShipmentScheduled].map(event);
    let records = [
        "OrderCreated ReserveStock",
        "OrderStockReserved PaymentRequested",
        "OrderPaid",
        "OrderConfirmed CommitStock NotificationRequested",
        "OrderShipped NotificationRequested",
    ];
    assert_eq!(story(&events), (records.map(str::to_owned).to_vec(), StockLeg::Shipped, PaymentLeg::Taken));
}

#[test]
fn what_is_asked_back_depends_on_what_was_asked_for() {
    use OrderEventKind::{
        Cancelled, Confirmed, PaymentSucceeded, Placed, Rejected, StockReleased, StockReserved,
    };
    let before = |kinds: &[OrderEventKind], then: Vec<OrderEvent>| {
        let events: Vec<_> = kinds.iter().map(|kind| event(*kind)).chain(then).collect();
        let (records, stock, payment) = story(&events);
        (records[kinds.len()..].to_vec(), stock, payment)
    };
    let released = || event(StockReleased);
    let cases = [
        // Refused by inventory.
        (
            &[Placed][..],
            vec![event(Rejected)],
            &["OrderRejected NotificationRequested"][..],
            PaymentLeg::NotWanted,
        ),
        (
            &[Placed],
            vec![compensation(false), released(), event(Cancelled)],
            &["OrderCompensating ReleaseStock", "OrderProgressed", "OrderCancelled NotificationRequested"],
            PaymentLeg::NotWanted,
        ),
        // Refused by billing.
        (
            &[Placed, StockReserved],
            vec![compensation(true), released(), event(Rejected)],
            &["OrderCompensating ReleaseStock", "OrderProgressed", "OrderRejected NotificationRequested"],
            PaymentLeg::Settled,
        ),
        (
            &[Placed, StockReserved],
            vec![compensation(false), refund(0), released()],
            &["OrderCompensating ReleaseStock RefundRequested", "OrderProgressed", "OrderProgressed"],
            PaymentLeg::Settled,
        ),
        (
            &[Placed, StockReserved, PaymentSucceeded, Confirmed, OrderEventKind::ShipmentScheduled],
            vec![compensation(false), released(), refund(1)],
            &[
                "OrderCompensating ReleaseStock RefundRequested",
                "OrderProgressed",
                "OrderProgressed NotificationRequested",
            ],
            PaymentLeg::Settled,
        ),
    ];
    for (kinds, then, records, payment) in cases {
        let records: Vec<String> = records.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(before(kinds, then.clone()), (records, StockLeg::Free, payment), "{kinds:?} {then:?}");
    }
}

#[test]
fn what_is_not_answered_is_asked_for_again() {
    use OrderEventKind::{
        AttentionNeeded, Confirmed, LatePaymentFound, LateStockFound, PaymentSucceeded, Placed,
        RequestsRepeated, Resolved, StockReleased, StockReserved,
    };
    let paid = || [Placed, StockReserved, PaymentSucceeded, Confirmed].map(event).to_vec();
    let repeated = || event(RequestsRepeated);
    let cases: [(Vec<OrderEvent>, &[&str]); 4] = [
        (
            vec![repeated(), event(AttentionNeeded), event(Resolved), repeated()],
            &[
                "OrderProgressed CommitStock",
                "OrderNeedsAttention",
                "OrderProgressed",
                "OrderProgressed CommitStock",
            ],
        ),
        (
            vec![compensation(false), repeated(), event(StockReleased), repeated()],
            &[
                "OrderCompensating ReleaseStock RefundRequested",
                "OrderProgressed ReleaseStock RefundRequested",
                "OrderProgressed",
                "OrderProgressed RefundRequested",
            ],
        ),
        (
            vec![compensation(false), event(StockReleased), refund(1), event(LateStockFound), repeated()],
            &[
                "OrderCompensating ReleaseStock RefundRequested",
                "OrderProgressed",
                "OrderProgressed NotificationRequested",
                "OrderProgressed ReleaseStock",
                "OrderProgressed ReleaseStock",
            ],
        ),
        (
            vec![compensation(true), event(StockReleased), event(LatePaymentFound), repeated()],
            &[
                "OrderCompensating ReleaseStock",
                "OrderProgressed",
                "OrderProgressed RefundRequested",
                "OrderProgressed RefundRequested",
            ],
        ),
    ];
    for (then, records) in cases {
        let events = [paid(), then].concat();
        assert_eq!(story(&events).0[4..], *records, "{events:?}");
    }
}

#[test]
fn an_order_from_before_there_was_stock() {
    use OrderEventKind::{
        CancellationRequested, Cancelled, Confirmed, LatePaymentFound, PaymentSucceeded, Placed,
    };
    let old =
        |kind| OrderEvent { before_stock: true, reason: Some(Reason::CancelledByCustomer), ..event(kind) };
    let placed = || {
        let total = Money { currency: "EUR".to_owned(), minor: 1 };
        let placed = facts::Placed {
            customer_id: "c".to_owned(),
            items: Basket::default(),
            total,
            payment_id: Uuid::nil(),
            reserves_stock: false,
        };
        OrderEvent { placed: Some(Box::new(placed)), ..old(Placed) }
    };
    let cases: [(Vec<OrderEvent>, &[&str], PaymentLeg); 2] = [
        (
            vec![placed(), old(PaymentSucceeded), old(Confirmed)],
            &["OrderCreated PaymentRequested", "OrderPaid", "OrderConfirmed NotificationRequested"],
            PaymentLeg::Taken,
        ),
        (
            vec![placed(), old(CancellationRequested), old(Cancelled), old(LatePaymentFound)],
            &[
                "OrderCreated PaymentRequested",
                "OrderCompensating RefundRequested",
                "OrderCancelled NotificationRequested",
                "RefundRequested",
            ],
            PaymentLeg::Refunding,
        ),
    ];
    for (events, records, payment) in cases {
        let records: Vec<String> = records.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(story(&events), (records, StockLeg::NotWanted, payment));
    }
}

#[test]
fn a_reservation_tells_what_it_has_answered() {
    let answers = |state, version| {
        let (order_id, items) = (Uuid::nil(), Basket::default());
        let reservation = Reservation { order_id, version, state, items, shipment: None, updated_ms: 0 };
        let first = |(_, at, types): Expected| (at, types[0].name().rsplit('.').next().unwrap_or_default());
        of_reservation(&reservation).map(first).collect::<Vec<_>>()
    };
    assert_eq!(answers(ReservationState::Reserved, 2), [(1, "StockReserved"), (2, "StockReserved")]);
    assert_eq!(answers(ReservationState::Committed, 2), [(1, "StockReserved"), (2, "ShipmentScheduled")]);
    assert_eq!(answers(ReservationState::Rejected, 1), [(1, "StockRejected")]);
    assert_eq!(answers(ReservationState::Released, 1), [(1, "StockReleased")]);
    assert_eq!(
        answers(ReservationState::Released, 3),
        [(1, "StockReserved"), (2, "ShipmentScheduled"), (3, "StockReleased")]
    );
}

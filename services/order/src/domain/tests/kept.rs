//! Events as they are kept: written in one schema, read in every one.

use serde_json::{Value, json};

use super::*;

fn all() -> Vec<Event> {
    let reason = Reason::PaymentExpired;
    vec![
        Event::OrderPlaced(placed(true)),
        Event::StockReserved {},
        Event::PaymentSucceeded {},
        Event::OrderConfirmed {},
        Event::ShipmentScheduled(shipment()),
        Event::OrderRejected { reason },
        Event::CompensationStarted { reason, outcome: Outcome::Rejected, payment_failed: true },
        Event::StockReleased {},
        Event::PaymentRefunded { minor: 9_998 },
        Event::OrderCancelled { reason },
        Event::LatePaymentFound {},
        Event::LateStockFound {},
        Event::RequestsRepeated {},
        Event::AttentionNeeded { reason: Reason::CommitFailed },
        Event::OrderResolved { resolution: Resolution::Close, reason: "paid by bank transfer".into() },
    ]
}

#[test]
fn what_is_kept_reads_back() {
    for event in all() {
        let data = event.data().expect("serializes");
        assert!(data.is_object(), "{data}");
        assert_eq!(Event::read(event.name(), Event::SCHEMA, data).expect("reads back"), event);
    }
}

/// What is in databases cannot be renamed.
#[test]
fn what_is_kept_is_named_like_this() {
    let data: Vec<Value> = all().iter().map(|event| event.data().expect("serializes")).collect();
    let shipment = json!({
        "shipment_id": "00000000-0000-0000-0000-000000000003",
        "carrier": "Simulated Parcel Line",
        "ship_time": "1970-01-02T00:00:00Z",
    });
    let placed = json!({
        "customer_id": "cust-1",
        "items": [{
            "product_id": "gaming-mouse", "quantity": 2, "unit_price": { "currency": "EUR", "minor": 4_999 },
        }],
        "total": { "currency": "EUR", "minor": 9_998 },
        "payment_id": "00000000-0000-0000-0000-000000000002",
        "payment_token_hash": "hash",
        "reserves_stock": true,
    });
    let expected = [
        placed,
        json!({}),
        json!({}),
        json!({}),
        shipment,
        json!({ "reason": "PAYMENT_EXPIRED" }),
        json!({ "reason": "PAYMENT_EXPIRED", "outcome": "REJECTED", "payment_failed": true }),
        json!({}),
        json!({ "minor": 9_998 }),
        json!({ "reason": "PAYMENT_EXPIRED" }),
        json!({}),
        json!({}),
        json!({}),
        json!({ "reason": "COMMIT_FAILED" }),
        json!({ "resolution": "CLOSE", "reason": "paid by bank transfer" }),
    ];
    assert_eq!(data, expected);
}

/// A history that the first release has written, and the order that it makes.
fn lifted(events: &[(&str, Value)]) -> Order {
    let events: Vec<Event> = events
        .iter()
        .map(|(name, data)| Event::read(name, 1, data.clone()).expect("schema 1 is read"))
        .collect();
    let first = evolve(ORDER, None, &events[0]);
    after(&first, &events[1..])
}

fn placed_1() -> (&'static str, Value) {
    let mut data = Event::OrderPlaced(placed(true)).data().expect("serializes");
    data.as_object_mut().expect("an object").remove("reserves_stock");
    ("OrderPlaced", data)
}

#[test]
fn an_order_from_before_there_was_stock_asks_for_its_payment_and_no_stock() {
    let order = lifted(&[placed_1()]);
    assert_eq!(
        (order.status, order.stock, order.payment),
        (Status::Pending, Stock::NotWanted, Payment::Requested)
    );
    assert_eq!(order.waits_for(), Some(Wait::Payment));
    let confirmed = lifted(&[placed_1(), ("PaymentSucceeded", json!({})), ("OrderConfirmed", json!({}))]);
    assert!(confirmed.is_at_its_end());
    let rejected = lifted(&[placed_1(), ("OrderRejected", json!({ "reason": "INSUFFICIENT_FUNDS" }))]);
    assert!(rejected.is_at_its_end());
    assert_eq!((rejected.payment, rejected.outcome), (Payment::Settled, Some(Outcome::Rejected)));
}

#[test]
fn a_cancellation_from_before_there_was_stock_is_a_compensation() {
    let cancelling = ("CancellationRequested", json!({ "reason": "CANCELLED_BY_CUSTOMER" }));
    let order = lifted(&[placed_1(), cancelling.clone()]);
    assert_eq!((order.status, order.stock), (Status::Compensating, Stock::NotWanted));
    assert_eq!((order.payment, order.outcome), (Payment::Refunding, Some(Outcome::Cancelled)));
    let refunded = after_command(&order, &Command::PaymentRefunded { minor: 0 });
    assert!(refunded.is_at_its_end() && refunded.status == Status::Cancelled);
    // The refund was no event then.
    let cancelled = ("OrderCancelled", json!({ "reason": "CANCELLED_BY_CUSTOMER" }));
    let order = lifted(&[placed_1(), cancelling.clone(), cancelled.clone()]);
    assert!(order.is_at_its_end(), "{order:?}");
    let late = lifted(&[placed_1(), cancelling, cancelled, ("LatePaymentFound", json!({}))]);
    assert_eq!((late.status, late.waits_for()), (Status::Cancelled, Some(Wait::Compensation)));
}

#[test]
fn an_event_that_nobody_knows_is_an_error_that_names_it() {
    for (name, data) in [("OrderTeleported", json!({})), ("OrderRejected", json!({ "reason": "BOREDOM" }))] {
        let error = Event::read(name, Event::SCHEMA, data).expect_err("unknown");
        assert_eq!(error.to_string(), format!("event {name} of schema 2 cannot be read"));
    }
    // A name of schema 1 is none of schema 2.
    let data = json!({ "reason": "CANCELLED_BY_CUSTOMER" });
    assert!(Event::read("CancellationRequested", Event::SCHEMA, data).is_err());
}

#[test]
fn what_needs_more_words_than_its_name_has_them() {
    let details: Vec<String> = all().iter().map(Event::detail).filter(|detail| !detail.is_empty()).collect();
    let expected =
        ["Simulated Parcel Line fetches it at 1970-01-02T00:00:00Z", "Close: paid by bank transfer"];
    assert_eq!(details, expected);
    assert_eq!(Event::PaymentRefunded { minor: 0 }.detail(), "nothing had been charged");
}

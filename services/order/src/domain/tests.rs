//! The rules, cell by cell.

use uuid::Uuid;

use super::*;

const REASON: Reason = Reason::PaymentDeclined;

fn item(quantity: i32, currency: &str, minor: i64) -> Item {
    Item {
        product_id: "gaming-mouse".into(),
        quantity,
        unit_price: Money { currency: currency.into(), minor },
    }
}

fn draft(items: Vec<Item>) -> Draft {
    Draft { customer_id: "cust-1".into(), items, payment_token: "tok_ok".into() }
}

fn placed() -> Placed {
    place(draft(vec![item(2, "EUR", 4_999)]), Uuid::nil(), "hash".into()).expect("a good order")
}

fn order(status: Status) -> Order {
    let mut order = evolve(Uuid::nil(), None, &Event::OrderPlaced(placed()));
    order.status = status;
    if status == Status::Compensating {
        order.reason = Some(Reason::CancelledByCustomer);
    }
    order
}

#[test]
fn every_state_answers_every_command() {
    use Status::*;
    let paid = || Ok(vec![Event::PaymentSucceeded {}, Event::OrderConfirmed {}]);
    let none = || Ok(vec![]);
    let rejected = || Ok(vec![Event::OrderRejected { reason: REASON }]);
    let cancelling = || Ok(vec![Event::CancellationRequested { reason: Reason::CancelledByCustomer }]);
    let cancelled = || Ok(vec![Event::OrderCancelled { reason: Reason::CancelledByCustomer }]);
    let late = || Ok(vec![Event::LatePaymentFound {}]);
    // State, then the answers to: Cancel, PaymentSucceeded, PaymentFailed, PaymentRefunded.
    let table = [
        (Pending, [cancelling(), paid(), rejected(), none()]),
        (StockReserved, [cancelling(), paid(), rejected(), none()]),
        (Paid, [Err(NotCancellable), none(), none(), none()]),
        (Confirmed, [Err(NotCancellable), none(), none(), none()]),
        (Compensating, [none(), none(), none(), cancelled()]),
        (Rejected, [Err(NotCancellable), late(), none(), none()]),
        (Cancelled, [none(), late(), none(), none()]),
        (NeedsAttention, [Err(NotCancellable), none(), none(), none()]),
    ];
    let commands = [
        Command::Cancel,
        Command::PaymentSucceeded,
        Command::PaymentFailed(REASON),
        Command::PaymentRefunded,
    ];
    for (status, answers) in table {
        for (command, answer) in commands.into_iter().zip(answers) {
            assert_eq!(decide(&order(status), command), answer, "{status:?} x {command:?}");
        }
    }
}

#[test]
fn every_event_leads_to_its_state() {
    let table = [
        (Event::PaymentSucceeded {}, Status::Paid, None),
        (Event::OrderConfirmed {}, Status::Confirmed, None),
        (Event::OrderRejected { reason: REASON }, Status::Rejected, Some(REASON)),
        (Event::CancellationRequested { reason: REASON }, Status::Compensating, Some(REASON)),
        (Event::OrderCancelled { reason: REASON }, Status::Cancelled, Some(REASON)),
        (Event::LatePaymentFound {}, Status::Pending, None),
    ];
    for (event, status, reason) in table {
        let after = evolve(Uuid::nil(), Some(order(Status::Pending)), &event);
        assert_eq!((after.status, after.reason, after.version), (status, reason, 2), "{event:?}");
    }
}

#[test]
fn a_cancelled_order_whose_payment_succeeds_late_is_refunded_and_ends_once() {
    let mut now = order(Status::Pending);
    let mut history = Vec::new();
    for command in [
        Command::Cancel,
        Command::PaymentSucceeded,
        Command::PaymentRefunded,
        Command::PaymentRefunded,
        Command::PaymentSucceeded,
    ] {
        for event in decide(&now, command).expect("allowed") {
            now = evolve(now.id, Some(now), &event);
            history.push(event.name());
        }
    }
    assert_eq!(history, ["CancellationRequested", "OrderCancelled", "LatePaymentFound"]);
    assert_eq!(now.status, Status::Cancelled);
}

#[test]
fn what_is_persisted_reads_back() {
    let events = [
        Event::OrderPlaced(placed()),
        Event::PaymentSucceeded {},
        Event::OrderConfirmed {},
        Event::OrderRejected { reason: Reason::InsufficientFunds },
        Event::CancellationRequested { reason: Reason::CancelledByCustomer },
        Event::OrderCancelled { reason: Reason::PaymentExpired },
        Event::LatePaymentFound {},
    ];
    for event in events {
        let stored = serde_json::to_value(&event).expect("serializes");
        assert_eq!(stored["event"], event.name());
        assert!(stored["data"].is_object(), "{stored}");
        assert_eq!(serde_json::from_value::<Event>(stored).expect("reads back"), event);
    }
}

#[test]
fn an_order_is_refused_with_every_wrong_field_named() {
    let wrong = |draft: Draft| -> Vec<String> {
        let violations = place(draft, Uuid::nil(), String::new()).expect_err("refused");
        violations.into_iter().map(|violation| violation.field).collect()
    };
    assert_eq!(wrong(draft(vec![])), ["items"]);
    assert_eq!(wrong(draft(vec![item(1, "EUR", 1); 1_001])), ["items"]);
    assert_eq!(
        wrong(draft(vec![item(0, "EUR", 1), item(-1, "EUR", 1)])),
        ["items[0].quantity", "items[1].quantity"]
    );
    assert_eq!(wrong(draft(vec![item(1, "EUR", 1), item(1, "USD", 1)])), ["items[1].unit_price.currency"]);
    assert_eq!(
        wrong(draft(vec![item(1, "eur", 0)])),
        ["items[0].unit_price.minor", "items[0].unit_price.currency"]
    );
    assert_eq!(wrong(draft(vec![item(i32::MAX, "EUR", i64::MAX)])), ["items"]);
    assert_eq!(wrong(draft(vec![item(1, "EUR", i64::MAX), item(1, "EUR", 1)])), ["items"]);
    let long = "x".repeat(65);
    for customer_id in ["", "with space", "ünicode", long.as_str()] {
        assert_eq!(
            wrong(Draft { customer_id: customer_id.into(), ..draft(vec![item(1, "EUR", 1)]) }),
            ["customer_id"]
        );
    }
    let token = "t".repeat(129);
    assert_eq!(wrong(Draft { payment_token: token, ..draft(vec![item(1, "EUR", 1)]) }), ["payment_token"]);
}

#[test]
fn the_total_is_exact() {
    let items = vec![item(3, "EUR", 4_999), item(1_000, "EUR", 1)];
    let placed = place(draft(items), Uuid::nil(), String::new()).expect("a good order");
    assert_eq!(placed.total, Money { currency: "EUR".into(), minor: 15_997 });
}

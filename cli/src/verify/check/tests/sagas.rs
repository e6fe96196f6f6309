//! Orders that wait for too long, for nothing, or for an operator.

use super::{
    broken, judge,
    world::{View, World, event, with_reason},
};
use crate::verify::{
    facts::{
        NotificationKind, OrderEvent, OrderEventKind, OrderStatus, PaymentLeg, PaymentStatus, Reason,
        ReservationState, StockLeg,
    },
    report::Outcome,
};

const RULE: &str = "sagas";

#[test]
fn deadlines() {
    broken(
        |w| w.facts.orders.get_mut(&w.confirmed).expect("there").overdue_ms = Some(61_000),
        &[
            ("order-history", "it waits for nothing, and has a deadline"),
            (RULE, "is CONFIRMED, and its deadline passed 61 s ago"),
        ],
    );
    // Its carrier was never found.
    broken(
        |w| {
            let id = w.confirmed;
            w.facts.order_events.retain(|event| event.order_id != id || event.version < 5);
            let order = w.facts.orders.get_mut(&id).expect("there");
            (order.version, order.stock, order.shipment) = (4, StockLeg::Reserved, None);
        },
        &[
            ("order-history", "it waits for an answer, and has no deadline"),
            ("events-published", "OrderShipped that nothing has caused"),
            ("notifications", "(ORDER_SHIPPED of order"),
        ],
    );
    broken(
        |w| w.facts.orders.get_mut(&w.confirmed).expect("there").attempts = 3,
        &[(RULE, "has asked again 3 times, its events say 0")],
    );
}

/// Every rule holds, and these are the notes of all of them.
#[track_caller]
fn notes(world: &World) -> Vec<String> {
    let found = judge(&world.facts);
    assert!(found.iter().all(|invariant| invariant.outcome == Outcome::Ok), "{found:#?}");
    found.into_iter().flat_map(|invariant| invariant.notes).collect()
}

#[test]
fn who_waits_for_an_operator_is_named_and_breaks_nothing() {
    let parked = View {
        attention: Some(Reason::CommitFailed),
        ..View::of(OrderStatus::NeedsAttention, StockLeg::Reserved, PaymentLeg::Taken)
    };
    let why = || vec![with_reason(OrderEventKind::AttentionNeeded, Reason::CommitFailed)];
    // Whatever inventory holds: the order is open.
    for state in [ReservationState::Reserved, ReservationState::Rejected] {
        let mut id = None;
        let world = World::with(|w| id = Some(w.add_order(parked, why(), state)));
        let id = id.expect("it was added");
        let note = format!("order {id} waits for an operator (NEEDS_ATTENTION): COMMIT_FAILED");
        assert_eq!(notes(&world), [note]);
    }
    let world = World::with(|w| {
        for _ in 0..12 {
            w.add_order(parked, why(), ReservationState::Reserved);
        }
    });
    let notes = notes(&world);
    assert_eq!((notes.len(), notes[10].as_str()), (11, "and 2 more wait for an operator"));
}

#[test]
fn whatever_an_operator_has_closed_is_the_operators() {
    let closed = View::of(OrderStatus::Cancelled, StockLeg::Free, PaymentLeg::Settled);
    let world = World::with(|w| {
        let events = vec![
            with_reason(OrderEventKind::AttentionNeeded, Reason::ShipmentOverdue),
            OrderEvent { closes: true, ..event(OrderEventKind::Resolved) },
            with_reason(OrderEventKind::Cancelled, Reason::CancelledByOperator),
        ];
        let id = w.add_order(closed.because(Reason::CancelledByOperator), events, ReservationState::Reserved);
        w.notifications(id, &[NotificationKind::OrderCancelled]);
    });
    assert_eq!(notes(&world), ["1 order was closed by an operator, who answers for its money and its stock"]);
}

#[test]
fn a_payment_without_an_outcome_is_named_where_an_operator_answers_for_it() {
    let parked = View {
        attention: Some(Reason::CompensationOverdue),
        ..View::of(OrderStatus::NeedsAttention, StockLeg::Free, PaymentLeg::Refunding)
    };
    let closed = View::of(OrderStatus::Cancelled, StockLeg::Free, PaymentLeg::Settled);
    let closed = closed.because(Reason::CancelledByOperator);
    let undone = || {
        let reason = Reason::CancelledByCustomer;
        let undo = with_reason(OrderEventKind::CompensationStarted, reason);
        vec![
            OrderEvent { outcome: Some(OrderStatus::Cancelled), ..undo },
            event(OrderEventKind::StockReleased),
            with_reason(OrderEventKind::AttentionNeeded, Reason::CompensationOverdue),
        ]
    };
    let mut ids = Vec::new();
    let world = World::with(|w| {
        let parked = View { reason: Some(Reason::CancelledByCustomer), ..parked };
        let first = w.add_order(parked, undone(), ReservationState::Released);
        w.facts.orders.get_mut(&first).expect("there").outcome = Some(OrderStatus::Cancelled);
        let mut events = undone();
        events.push(OrderEvent { closes: true, ..event(OrderEventKind::Resolved) });
        events.push(with_reason(OrderEventKind::Cancelled, Reason::CancelledByOperator));
        let second = w.add_order(closed, events, ReservationState::Released);
        w.notifications(second, &[NotificationKind::OrderCancelled]);
        for order in [first, second] {
            let payment = w.payment_of(order);
            (payment.status, payment.version) = (PaymentStatus::Refunding, 3);
            ids.push(payment.id);
        }
    });
    ids.sort_unstable();
    let note = format!(
        "2 payments have no outcome yet, and operators answer for their orders: {}, {}",
        ids[0], ids[1]
    );
    assert_eq!(notes(&world)[1..2], [note]);
}

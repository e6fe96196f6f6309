//! What holds in every state that an order can come to, whatever is said to it and in whatever order.

use std::collections::HashMap;

use super::*;

/// More states than this are not a table any more.
const MANY: usize = 1_000;

/// A state without its version, which only counts.
fn unversioned(order: &Order) -> String {
    format!("{:?}", Order { version: 0, ..order.clone() })
}

/// Every state that any commands in any order lead to, each with the way there.
fn reachable() -> Vec<(Order, Vec<&'static str>)> {
    let mut states: Vec<(Order, Vec<&str>)> = [true, false].map(|stock| (new_order(stock), vec![])).into();
    let mut known: HashMap<String, usize> =
        states.iter().enumerate().map(|(place, (order, _))| (unversioned(order), place)).collect();
    let mut next = 0;
    while let Some((order, way)) = states.get(next).cloned() {
        next += 1;
        for (name, command) in commands() {
            let after = after_command(&order, &command);
            if known.insert(unversioned(&after), states.len()).is_none() {
                let way = way.iter().copied().chain([name]).collect();
                states.push((after, way));
            }
            assert!(states.len() < MANY, "the states of an order are not finite: {way:?}");
        }
    }
    states
}

#[test]
fn every_state_is_an_end_or_waits_for_something_or_for_an_operator() {
    for (order, way) in reachable() {
        let parked = order.status == Status::NeedsAttention;
        let ways = [order.is_at_its_end(), order.waits_for().is_some(), parked];
        assert_eq!(ways.iter().filter(|is| **is).count(), 1, "{way:?} leads to {order:?}");
        assert_eq!(order.attention.is_some(), parked, "{way:?} leads to {order:?}");
        assert_ne!(order.status, Status::Paid, "it lasts only inside a transaction: {way:?}");
        if matches!(order.status, Status::Compensating | Status::Rejected | Status::Cancelled) {
            assert!(order.outcome.is_some() && order.reason.is_some(), "{way:?} leads to {order:?}");
        }
    }
}

#[test]
fn every_command_in_every_state_asks_for_what_its_events_owe_and_for_nothing_else() {
    for (order, way) in reachable() {
        for (name, command) in commands() {
            let mut before = order.clone();
            for event in decide(&order, command).unwrap_or_default() {
                let after = evolve(ORDER, Some(before.clone()), &event);
                assert_eq!(after.version, before.version + 1);
                let requests = requests(Some(&before), &event, &after);
                let says = |request| requests.iter().filter(|asked| **asked == request).count();
                let at = format!("{way:?}, then {name}: {event:?} asks {requests:?}");
                assert_eq!(says(Request::ReserveStock), 0, "asked for once, with the order: {at}");
                let began = |was: bool, is: bool| usize::from(is && !was);
                let takes = began(before.payment == Payment::Requested, after.payment == Payment::Requested);
                assert_eq!(says(Request::TakePayment), takes, "{at}");
                let repeats = event == Event::RequestsRepeated {};
                let releasing = after.stock == Stock::Releasing;
                let releases = began(before.stock == Stock::Releasing && !repeats, releasing);
                assert_eq!(says(Request::ReleaseStock), releases, "{at}");
                let refunding = after.payment == Payment::Refunding;
                let refunds = began(before.payment == Payment::Refunding && !repeats, refunding);
                assert_eq!(says(Request::RefundPayment), refunds, "{at}");
                let unshipped = after.status == Status::Confirmed && after.stock == Stock::Reserved;
                let commits = unshipped && (repeats || event == Event::OrderConfirmed {});
                assert_eq!(says(Request::CommitStock), usize::from(commits), "{at}");
                before = after;
            }
        }
    }
}

#[test]
fn a_command_said_twice_causes_nothing_new() {
    for (order, way) in reachable() {
        for (name, command) in commands() {
            if matches!(command, Command::DeadlinePassed | Command::Resolve { .. }) {
                continue;
            }
            let after = after_command(&order, &command);
            let again = decide(&after, command).unwrap_or_default();
            assert_eq!(again, [], "{way:?}, then {name} twice");
        }
    }
}

#[test]
fn an_order_that_has_ended_moves_only_for_its_customer_and_for_a_late_success() {
    for (order, way) in reachable().into_iter().filter(|(order, _)| order.is_at_its_end()) {
        for (name, command) in commands() {
            let events = decide(&order, command.clone()).unwrap_or_default();
            match (&command, events.as_slice()) {
                (_, []) => {}
                (Command::Cancel { .. }, [Event::CompensationStarted { .. }, ..]) => {
                    assert_eq!(order.status, Status::Confirmed, "{way:?}");
                }
                (Command::PaymentSucceeded, [Event::LatePaymentFound {}]) => {}
                (Command::StockReserved | Command::ShipmentScheduled(_), [Event::LateStockFound {}]) => {}
                _ => panic!("{way:?}, then {name}: {events:?}"),
            }
        }
    }
}

/// What services answer that do what they are asked for; nothing where the order has ended.
fn answer(order: &Order) -> Option<Command> {
    match (order.status, order.stock, order.payment) {
        (_, Stock::Releasing, _) => Some(Command::StockReleased),
        (_, _, Payment::Refunding) => Some(Command::PaymentRefunded { minor: order.total.minor }),
        (_, Stock::Requested, _) => Some(Command::StockReserved),
        (_, _, Payment::Requested) => Some(Command::PaymentSucceeded),
        (Status::Confirmed | Status::NeedsAttention, Stock::Reserved, _) => {
            Some(Command::ShipmentScheduled(shipment()))
        }
        (Status::NeedsAttention, ..) => {
            Some(Command::Resolve { resolution: Resolution::Retry, reason: "all is answered".into() })
        }
        _ => None,
    }
}

#[test]
fn from_everywhere_the_answers_of_services_that_do_their_work_lead_to_an_end() {
    for (order, way) in reachable() {
        let mut now = order.clone();
        for _ in 0..8 {
            let Some(command) = answer(&now) else { break };
            now = after_command(&now, &command);
        }
        assert!(now.is_at_its_end(), "{way:?} leads to {order:?} and never to an end: {now:?}");
    }
}

#[test]
fn where_nobody_answers_any_more_deadlines_lead_to_an_end_or_to_an_operator() {
    let most = 2 * usize::try_from(REPEATS).expect("a few") + 4;
    for (order, way) in reachable() {
        let mut now = order.clone();
        for _ in 0..most {
            now = after_command(&now, &Command::DeadlinePassed);
        }
        let rests = now.is_at_its_end() || now.status == Status::NeedsAttention;
        assert!(rests, "{way:?} leads to {order:?}, and then to {now:?}");
        assert_eq!(decide(&now, Command::DeadlinePassed), Ok(vec![]));
    }
}

#[test]
fn an_operator_can_end_whatever_waits_for_one() {
    let resolve = |resolution| Command::Resolve { resolution, reason: "looked at it".into() };
    for (order, way) in reachable() {
        for resolution in [Resolution::Retry, Resolution::Cancel, Resolution::Close] {
            let decided = decide(&order, resolve(resolution));
            if order.status != Status::NeedsAttention {
                assert_eq!(decided, Err(Refused::NotResolvable), "{way:?}");
            }
        }
        if order.status == Status::NeedsAttention {
            let closed = after_command(&order, &resolve(Resolution::Close));
            assert!(closed.is_at_its_end() && closed.status == Status::Cancelled, "{way:?}: {closed:?}");
            let mut cancelled = after_command(&order, &resolve(Resolution::Cancel));
            for command in [Command::StockReleased, Command::PaymentRefunded { minor: 9_998 }] {
                cancelled = after_command(&cancelled, &command);
            }
            assert!(
                cancelled.is_at_its_end() && cancelled.status == Status::Cancelled,
                "{way:?}: {cancelled:?}"
            );
        }
    }
}

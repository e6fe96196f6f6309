//! What retention has removed is not missed, and what it cannot have removed is.

use super::{
    broken, judge,
    world::{PARTITION, PARTITIONS, World},
};
use crate::verify::{
    facts::{EventType, Log, OrderEventKind, Span, Topic},
    report::Outcome,
};

/// What is younger has not expired: no order is older than this.
const LONG_AGO: i64 = 0;
/// Everything has expired.
const EVER: i64 = i64::MAX;

/// Leaves these partitions of every topic without a record.
fn empty(log: &mut Log, expired_ms: i64, partitions: impl Fn(i32) -> bool) {
    log.records.retain(|record| !partitions(record.partition));
    for ((_, partition), span) in &mut log.partitions {
        if partitions(*partition) {
            *span = Span { low: 1000, first_ms: None, expired_ms };
        }
    }
}

/// An event that no outbox, topic and inbox has ever held.
fn lose(world: &mut World, event_type: EventType) {
    let gone = world.facts.log.records.remove(world.record(world.confirmed, event_type));
    world.facts.outbox.retain(|row| row.event_id != Some(gone.id));
    world.facts.inbox.retain(|row| row.id != gone.id.to_string());
}

#[test]
fn what_has_expired_is_not_missed() {
    let mut world = World::new();
    empty(&mut world.facts.log, EVER, |_| true);
    for invariant in judge(&world.facts) {
        assert_eq!(invariant.outcome, Outcome::Ok, "{invariant:#?}");
        let noted = invariant.notes.iter().any(|note| note.contains("not checked"));
        let compares = ["events-published", "outbox-topic", "effects-once"].contains(&invariant.name);
        assert_eq!(noted, compares, "{invariant:#?}");
    }
}

#[test]
fn what_had_not_expired_is_missed_in_an_emptied_partition() {
    broken(
        |w| empty(&mut w.facts.log, LONG_AGO, |partition| partition == PARTITION),
        &[
            ("events-published", "missing orderly.order.v1.OrderPaid"),
            ("outbox-topic", "missing in order-status"),
        ],
    );
}

#[test]
fn an_emptied_partition_excuses_no_other() {
    // The key's other records tell its partition.
    broken(
        |w| {
            empty(&mut w.facts.log, EVER, |partition| partition != PARTITION);
            lose(w, EventType::OrderPaid);
        },
        &[("events-published", "missing orderly.order.v1.OrderPaid")],
    );
    // Also where it is not the one that the key would have today.
    broken(
        |w| {
            let elsewhere = (PARTITION + 1) % PARTITIONS;
            w.facts.log.records.iter_mut().for_each(|record| record.partition = elsewhere);
            empty(&mut w.facts.log, EVER, |partition| partition != elsewhere);
            lose(w, EventType::OrderPaid);
        },
        &[("events-published", "missing orderly.order.v1.OrderPaid")],
    );
    // None of them is left, so only the key tells it.
    broken(
        |w| {
            empty(&mut w.facts.log, EVER, |partition| partition != PARTITION);
            lose(w, EventType::OrderPaid);
            lose(w, EventType::OrderConfirmed);
        },
        &[("events-published", "missing orderly.order.v1.OrderConfirmed")],
    );
}

#[test]
fn a_partition_that_has_lost_its_beginning_is_known_from_its_first_record_on() {
    let first_ms = |w: &mut World, first_ms| {
        let span = Span { low: 1, first_ms: Some(first_ms), expired_ms: EVER };
        w.facts.log.partitions.insert((Topic::OrderStatus, PARTITION), span);
        lose(w, EventType::OrderPaid);
    };
    broken(|w| first_ms(w, 1), &[("events-published", "missing orderly.order.v1.OrderPaid")]);
    let mut world = World::new();
    first_ms(&mut world, EVER);
    let found = judge(&world.facts);
    let published =
        found.iter().find(|invariant| invariant.name == "events-published").expect("it is a rule");
    assert_eq!(published.outcome, Outcome::Ok, "{published:#?}");
    let note = "1 records not checked: older than their topic's retention, in partitions that have lost their first records";
    assert_eq!(published.notes, [note]);
}

#[test]
fn what_is_young_is_missed_however_old_its_order_is() {
    // All of the order has expired, but for the one event.
    let since = |w: &mut World, expired_ms| {
        for span in w.facts.log.partitions.values_mut() {
            *span = Span { low: 1, first_ms: None, expired_ms };
        }
    };
    let young = i64::MAX - 1;
    broken(
        |w| {
            since(w, young);
            lose(w, EventType::OrderPaid);
            let (order, paid) = (w.confirmed, OrderEventKind::PaymentSucceeded);
            let mut events = w.facts.order_events.iter_mut();
            let event = events.find(|event| event.order_id == order && event.kind == paid);
            event.expect("there").occurred_ms = young;
        },
        &[("events-published", "missing orderly.order.v1.OrderPaid")],
    );
    broken(
        |w| {
            since(w, young);
            lose(w, EventType::PaymentSucceeded);
            w.payment_of(w.confirmed).updated_ms = young;
        },
        &[("events-published", "missing orderly.billing.v1.PaymentSucceeded")],
    );
    // The last version of a reservation is young, the one before it may be old.
    broken(
        |w| {
            since(w, young);
            lose(w, EventType::ShipmentScheduled);
            w.reservation_of(w.confirmed).updated_ms = young;
        },
        &[("events-published", "missing orderly.inventory.v1.ShipmentScheduled")],
    );
    let mut world = World::new();
    since(&mut world, young);
    lose(&mut world, EventType::StockReserved);
    world.reservation_of(world.confirmed).updated_ms = young;
    let found = judge(&world.facts);
    assert!(found.iter().all(|invariant| invariant.outcome != Outcome::Broken), "{found:#?}");
}

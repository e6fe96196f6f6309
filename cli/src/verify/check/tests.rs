//! Breaks each rule by hand and sees it named, with whatever broke it.

mod dead_letters;
mod history;
mod money;
mod notifications;
mod retention;
mod sagas;
mod stock;
mod world;

use uuid::Uuid;

use self::world::World;
use super::RULES;
use crate::verify::{
    facts::{EventType, Facts, Money, Stray, Topic},
    report::{Invariant, Outcome},
};

fn judge(facts: &Facts) -> Vec<Invariant> {
    RULES.iter().map(|rule| rule.judge(facts, true)).collect()
}

/// Breaks a healthy world and expects these rules, and no other, to name each of these things, in words.
#[track_caller]
fn broken(break_it: impl FnOnce(&mut World), expected: &[(&str, &str)]) {
    let mut world = World::new();
    break_it(&mut world);
    world.facts.log.records.sort_by(|one, other| one.place().cmp(&other.place()));
    let found = judge(&world.facts);
    let mut names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    names.dedup();
    let offending: Vec<&str> =
        found.iter().filter(|i| i.outcome == Outcome::Broken).map(|i| i.name).collect();
    assert_eq!(offending, names, "{found:#?}");
    for (name, words) in expected {
        let invariant = found.iter().find(|invariant| invariant.name == *name).expect("it is a rule");
        let named = invariant.offenders.iter().any(|offender| {
            let text = format!("{}: {}", offender.subject, offender.problem);
            text.contains(words)
        });
        assert!(named, "{name} does not say {words:?}: {:#?}", invariant.offenders);
    }
}

#[test]
fn a_healthy_world_holds() {
    broken(|_| {}, &[]);
    for invariant in judge(&World::new().facts) {
        assert!(invariant.checked > 0, "{} checked nothing", invariant.name);
        assert_eq!(invariant.notes, Vec::<String>::new(), "{}", invariant.name);
    }
}

#[test]
fn nothing_is_judged_while_records_are_on_their_way() {
    let mut world = World::new();
    world.facts.log.records.clear();
    let outcomes: Vec<_> = RULES.iter().map(|rule| rule.judge(&world.facts, false).outcome).collect();
    assert!(!outcomes.contains(&Outcome::Broken), "{outcomes:?}");
}

#[test]
fn events_published() {
    // Never appended: a comparison of outbox and topics does not see it.
    broken(
        |w| {
            let at = w.record(w.confirmed, EventType::OrderPaid);
            let gone = w.facts.log.records.remove(at);
            w.facts.outbox.retain(|row| row.event_id != Some(gone.id));
        },
        &[("events-published", "missing orderly.order.v1.OrderPaid")],
    );
    broken(
        |w| {
            let at = w.record(w.rejected, EventType::PaymentFailed);
            w.facts.log.records[at].event_type = EventType::PaymentSucceeded;
        },
        &[("events-published", "PaymentSucceeded where orderly.billing.v1.PaymentFailed was to be")],
    );
    broken(
        |w| {
            let (topic, problem) = (Topic::OrderStatus, "it has no header ce_id".to_owned());
            w.facts.log.strays.push(Stray { topic, partition: 1, offset: 7, problem });
        },
        &[("events-published", "order-status/1/7: no event of this platform: it has no header ce_id")],
    );
}

#[test]
fn outbox_topic() {
    broken(
        |w| {
            let at = w.record(w.confirmed, EventType::OrderCreated);
            w.facts.log.records[at].digest = [1; 16];
        },
        &[("outbox-topic", "its record in order-created has other bytes")],
    );
    broken(
        |w| {
            let at = w.record(w.confirmed, EventType::OrderCreated);
            let mut changed = w.facts.log.records[at].clone();
            changed.digest = [1; 16];
            changed.offset = 1000;
            w.facts.log.records.push(changed);
        },
        &[("outbox-topic", "published a second time with other bytes")],
    );
    broken(
        |w| {
            let at = w.record(w.confirmed, EventType::OrderCreated);
            let gone = w.facts.log.records.remove(at);
            assert!(w.facts.outbox.iter().any(|row| row.event_id == Some(gone.id)));
        },
        &[("events-published", "missing"), ("outbox-topic", "missing in order-created")],
    );
    broken(
        |w| {
            let id = w.facts.log.records[0].id;
            w.facts.outbox.retain(|row| row.event_id != Some(id));
        },
        &[("outbox-topic", "phantom: no outbox has it")],
    );
    // A leaf from before yesterday may have been cleared.
    let mut world = World::new();
    world.facts.outbox.clear();
    world.facts.outbox_kept_since = i64::MAX;
    let found = judge(&world.facts);
    assert!(found.iter().all(|invariant| invariant.outcome == Outcome::Ok), "{found:#?}");
}

#[test]
fn order_per_key() {
    let swap = |w: &mut World| {
        let (one, two) =
            (w.record(w.confirmed, EventType::OrderPaid), w.record(w.confirmed, EventType::OrderConfirmed));
        let records = &mut w.facts.log.records;
        (records[one].offset, records[two].offset) = (records[two].offset, records[one].offset);
    };
    broken(swap, &[("order-per-key", "sequence 3 at offset")]);
    broken(
        |w| {
            let at = w.record(w.confirmed, EventType::OrderConfirmed);
            w.facts.log.records[at].partition = 9;
        },
        &[("order-per-key", "is in partition 3 and in partition 9")],
    );
    broken(
        |w| {
            let at = w.record(w.confirmed, EventType::OrderPaid);
            let mut twin = w.facts.log.records[at].clone();
            (twin.id, twin.digest, twin.offset) = (Uuid::now_v7(), [7; 16], 1000);
            w.facts.log.records.push(twin);
        },
        &[("outbox-topic", "phantom"), ("order-per-key", "sequence 3 has two events")],
    );
    // A repeat after a crash of the relay breaks nothing.
    let mut world = World::new();
    let mut repeat = world.facts.log.records[world.record(world.confirmed, EventType::OrderPaid)].clone();
    repeat.offset = 1000;
    let after = world.record(world.confirmed, EventType::OrderConfirmed) + 1;
    world.facts.log.records.insert(after, repeat);
    let found = judge(&world.facts);
    assert!(found.iter().all(|invariant| invariant.outcome == Outcome::Ok), "{found:#?}");
    assert!(found.iter().any(|invariant| invariant.notes.iter().any(|note| note.contains("repeats"))));
}

#[test]
fn effects_once() {
    broken(
        |w| {
            w.facts.inbox.remove(0);
        },
        &[("effects-once", "no effect")],
    );
    broken(
        |w| {
            let mut again = w.facts.inbox[0].clone();
            again.seq = w.next();
            w.facts.inbox.push(again);
        },
        &[("effects-once", "took effect 2 times")],
    );
    broken(
        |w| {
            let mut phantom = w.facts.inbox[0].clone();
            phantom.id = Uuid::now_v7().to_string();
            w.facts.inbox.push(phantom);
        },
        &[("effects-once", "took effect without a record")],
    );
    broken(
        |w| {
            let of = |w: &World, event| w.facts.log.records[w.record(w.refunded, event)].id.to_string();
            let (first, second) = (of(w, EventType::PaymentSucceeded), of(w, EventType::PaymentRefunded));
            let seq = w.next();
            let row = w.facts.inbox.iter_mut().find(|row| row.id == first).expect("there");
            row.seq = seq;
            assert!(w.facts.inbox.iter().any(|row| row.id == second && row.seq < seq));
        },
        &[("effects-once", "sequence 2 took effect after 4")],
    );
}

#[test]
fn acked() {
    broken(
        |w| w.facts.acked.orders[0].order_id = Uuid::nil(),
        &[("acked", "was acknowledged and does not exist")],
    );
    broken(
        |w| w.facts.acked.orders[0].total = Money { currency: "EUR".to_owned(), minor: 1 },
        &[("acked", "is over EUR 4999, acknowledged over EUR 1")],
    );
    broken(
        |w| w.facts.acked.orders[0].request_id = Uuid::nil(),
        &[("acked", ", acknowledged to 00000000-0000-0000-0000-000000000000")],
    );
    broken(
        |w| {
            let request_id = w.facts.orders[&w.confirmed].request_id;
            w.facts.orders.get_mut(&w.cancelled).expect("there").request_id = request_id;
            let never_acked = w.cancelled;
            w.facts.acked.orders.retain(|acked| acked.order_id != never_acked);
        },
        &[("acked", "has made order")],
    );
    let mut world = World::new();
    world.facts.acked.other_files = 2;
    let found = judge(&world.facts);
    let acked = found.last().expect("the last rule");
    assert_eq!(acked.notes, ["2 of 3 runs were made against another cluster"]);
}

//! Dead letters that wait for nothing, are there twice, or have ended without a word.

use uuid::Uuid;

use super::{broken, judge, world::World};
use crate::verify::{
    facts::{DeadLetter, EventType, Group, Hold, LetterState, Record, Topic},
    report::Outcome,
};

const RULE: &str = "dead-letters";

/// Parks the confirmed order's payment request, holds its key, and lets the refunded order's first wait in the same
/// queue.
fn queue(w: &mut World) -> [usize; 2] {
    let one = w.letter(w.record(w.confirmed, EventType::PaymentRequested)).clone();
    w.facts.holds.push(hold(&one));
    let other = w.letter(w.record(w.rejected, EventType::PaymentRequested));
    (other.key_hash, other.state, other.copied) = (one.key_hash, LetterState::Held, false);
    other.audited = vec!["held".to_owned()];
    let last = w.facts.dead_letters.len() - 1;
    [last - 1, last]
}

fn hold(head: &DeadLetter) -> Hold {
    let key_hash = head.key_hash.clone().expect("it has a key");
    Hold { group: head.group, topic: head.topic.clone(), key_hash, head: head.id }
}

#[test]
fn what_waits_is_said_and_breaks_nothing() {
    let mut world = World::new();
    queue(&mut world);
    let found = judge(&world.facts);
    assert!(found.iter().all(|invariant| invariant.outcome == Outcome::Ok), "{found:#?}");
    let rule = found.iter().find(|invariant| invariant.name == RULE).expect("it is a rule");
    assert_eq!(rule.notes, ["2 records wait as dead letters: `orderly dlq list`"]);
}

#[test]
fn a_parked_record_has_not_taken_effect_yet() {
    // The first is parked, and its row is older than that of the second: nothing was overtaken.
    let mut world = World::new();
    let first = world.facts.log.records[world.record(world.refunded, EventType::PaymentSucceeded)].clone();
    let seq = world.next();
    let row = world.facts.inbox.iter_mut().find(|row| row.id == first.id.to_string()).expect("there");
    row.seq = seq;
    let group = row.group;
    let letter = world.letter(world.record(world.refunded, EventType::PaymentSucceeded));
    letter.group = group;
    letter.copied = false;
    let found = judge(&world.facts);
    assert!(found.iter().all(|invariant| invariant.outcome == Outcome::Ok), "{found:#?}");
    // Once it is replayed its row tells when.
    let letter = world.facts.dead_letters.last_mut().expect("it is there");
    letter.state = LetterState::Replayed;
    letter.audited.push("replayed".to_owned());
    let found = judge(&world.facts);
    let names: Vec<_> =
        found.iter().filter(|one| one.outcome == Outcome::Broken).map(|one| one.name).collect();
    assert_eq!(names, ["effects-once"]);
}

#[test]
fn what_was_given_up_has_had_its_turn() {
    let mut world = World::new();
    let [first, later] = [EventType::OrderConfirmed, EventType::OrderShipped].map(|kind| {
        let sequence = world.facts.log.records[world.record(world.confirmed, kind)].sequence;
        let key = world.facts.log.records[world.record(world.confirmed, kind)].key.clone();
        let told = |record: &Record| {
            (record.topic, record.sequence) == (Topic::NotificationEvents, sequence) && record.key == key
        };
        world.facts.log.records.iter().position(told).expect("it was published")
    });
    // The first was given up, the second is poison: it holds the key, and does not wait for the first.
    for (record, undelivered) in [(first, true), (later, false)] {
        let letter = world.letter(record);
        (letter.group, letter.copied, letter.undelivered) = (Group::Notification, false, undelivered);
    }
    let head = world.facts.dead_letters.last().expect("it is there").clone();
    world.facts.holds.push(hold(&head));
    let found = judge(&world.facts);
    assert!(found.iter().all(|invariant| invariant.outcome == Outcome::Ok), "{found:#?}");
    // Its place in the order is still looked at.
    world.facts.dead_letters.pop();
    world.facts.holds.clear();
    let (id, seq) = (world.facts.log.records[first].id.to_string(), world.next());
    world.facts.inbox.iter_mut().filter(|row| row.id == id).for_each(|row| row.seq = seq);
    let found = judge(&world.facts);
    let names: Vec<_> =
        found.iter().filter(|one| one.outcome == Outcome::Broken).map(|one| one.name).collect();
    assert_eq!(names, ["effects-once"]);
}

#[test]
fn holds() {
    broken(
        |w| {
            queue(w);
            w.facts.holds.clear();
        },
        &[(RULE, "waits, and nothing holds its key")],
    );
    broken(
        |w| {
            queue(w);
            w.facts.holds[0].head = Uuid::nil();
        },
        &[(RULE, "its letter 00000000-0000-0000-0000-000000000000 does not exist")],
    );
    broken(
        |w| {
            let [head, _] = queue(w);
            w.facts.dead_letters[head].state = LetterState::Discarded;
            w.facts.dead_letters[head].audited.push("discarded".to_owned());
        },
        &[(RULE, "is discarded already")],
    );
    broken(
        |w| {
            let [_, behind] = queue(w);
            let next = w.facts.dead_letters[behind].id;
            w.facts.holds[0].head = next;
        },
        &[
            (RULE, "is not the first of the key"),
            (RULE, "is the next of its key, and no replay is to process it"),
        ],
    );
    broken(
        |w| {
            let [head, _] = queue(w);
            w.facts.dead_letters[head].seq = i64::MAX;
        },
        &[(RULE, "which came after it"), (RULE, "is not the first of the key")],
    );
    broken(
        |w| {
            let [head, behind] = queue(w);
            w.facts.dead_letters.remove(behind);
            w.facts.dead_letters[head].key_hash = None;
        },
        &[(RULE, "is of another key")],
    );
    // A replay has come to it: the one before has taken effect.
    let mut world = World::new();
    let [head, behind] = queue(&mut world);
    let letters = &mut world.facts.dead_letters;
    letters[head].state = LetterState::Replayed;
    letters[head].audited.push("replayed".to_owned());
    letters[behind].replaying = true;
    world.facts.holds[0].head = letters[behind].id;
    let found = judge(&world.facts);
    assert!(found.iter().all(|invariant| invariant.outcome == Outcome::Ok), "{found:#?}");
}

#[test]
fn letters() {
    broken(
        |w| {
            let mut twin = w.facts.dead_letters[0].clone();
            (twin.id, twin.copied) = (Uuid::now_v7(), false);
            w.facts.dead_letters.push(twin);
        },
        &[(RULE, "from /orderly/order is letter")],
    );
    broken(|w| w.facts.dead_letters[0].audited.clear(), &[(RULE, "the audit knows nothing of it")]);
    broken(
        |w| w.facts.dead_letters[0].state = LetterState::Discarded,
        &[(RULE, "is discarded, and the audit does not say by whom")],
    );
    let of_letter = |w: &World| w.facts.dead_letters[0].identity.clone().expect("it has one").1;
    broken(
        |w| {
            let id = of_letter(w);
            w.facts.inbox.retain(|row| row.id != id);
        },
        &[("effects-once", "no effect"), (RULE, "is not in the inbox")],
    );
    broken(
        |w| w.facts.outbox.retain(|row| !row.topic.ends_with(".dlq")),
        &[(RULE, "its outbox holds no copy for payment-requests.billing.dlq")],
    );
    // Both rings have forgotten.
    let mut world = World::new();
    let id = of_letter(&world);
    world.facts.inbox.retain(|row| row.id != id);
    world.facts.outbox.clear();
    (world.facts.outbox_kept_since, world.facts.inbox_days) = (i64::MAX, 0..0);
    let rule =
        judge(&world.facts).into_iter().find(|invariant| invariant.name == RULE).expect("it is a rule");
    assert_eq!(rule.outcome, Outcome::Ok, "{rule:#?}");
}

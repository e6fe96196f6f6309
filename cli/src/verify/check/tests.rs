//! Breaks each rule by hand and sees it named, with whatever broke it.

mod dead_letters;
mod retention;
mod world;

use uuid::Uuid;

use self::world::World;
use super::RULES;
use crate::verify::{
    facts::{EventType, Facts, Money, NotificationKind, OrderStatus, PaymentStatus, Stray, Topic},
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
    world
        .facts
        .log
        .records
        .sort_by_key(|record| (record.topic, record.key, record.source, record.partition, record.offset));
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
fn order_history() {
    broken(
        |w| {
            let order = w.confirmed;
            w.facts.order_events.retain(|event| event.order_id != order || event.version != 2);
        },
        &[
            ("order-history", "version 2 is missing"),
            ("events-published", "OrderPaid that nothing has caused"),
        ],
    );
    broken(
        |w| {
            w.facts.orders.get_mut(&w.rejected).expect("there").reason = Some("PAYMENT_EXPIRED".to_owned());
        },
        &[("order-history", "status_reason is PAYMENT_EXPIRED, its events say PAYMENT_DECLINED")],
    );
    broken(
        |w| w.facts.orders.get_mut(&w.confirmed).expect("there").version = 4,
        &[("order-history", "version is 4, its events say 3")],
    );
    broken(
        |w| {
            w.facts.orders.get_mut(&w.confirmed).expect("there").status = OrderStatus::NeedsAttention;
            w.facts.notifications.retain(|n| n.kind != NotificationKind::OrderConfirmed);
            w.facts
                .mails
                .retain(|id, _| w.facts.notifications.iter().any(|n| id.starts_with(&n.id.to_string())));
        },
        &[("order-history", "status is NEEDS_ATTENTION, its events say CONFIRMED")],
    );
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
    broken(swap, &[("order-per-key", "sequence 2 at offset")]);
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
        &[("outbox-topic", "phantom"), ("order-per-key", "sequence 2 has two events")],
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
    broken(
        |w| {
            let order = w.confirmed;
            let second = w.payment_of(order).clone();
            w.facts.payments.push(second);
        },
        &[("payments", "is the second payment of its order")],
    );
}

#[test]
fn notifications() {
    broken(
        |w| {
            let order = w.rejected;
            w.facts.notifications.retain(|notification| notification.order_id != order);
        },
        &[("notifications", "ORDER_REJECTED was never told")],
    );
    broken(
        |w| {
            let order = w.cancelled;
            let told = w.facts.notifications.iter_mut().find(|n| n.order_id == order).expect("there");
            told.kind = NotificationKind::OrderConfirmed;
        },
        &[("notifications", "nothing has caused it"), ("notifications", "ORDER_CANCELLED was never told")],
    );
    broken(
        |w| {
            let mut second = w.facts.notifications[0].clone();
            second.id = Uuid::now_v7();
            w.facts.notifications.push(second);
        },
        &[("notifications", "is the second of its kind")],
    );
    broken(|w| w.facts.notifications[0].delivered = false, &[("notifications", "is not delivered")]);
    broken(
        |w| {
            w.facts.mails.pop_first();
        },
        &[("notifications", "its e-mail was never sent")],
    );
    broken(
        |w| {
            w.facts.mails.insert("stranger@orderly".to_owned(), 1);
        },
        &[("notifications", "e-mail stranger@orderly: no notification has caused it")],
    );
    // A repeat after a crash is not promised away.
    let mut world = World::new();
    *world.facts.mails.values_mut().next().expect("there") = 3;
    let found = judge(&world.facts);
    assert!(found.iter().all(|invariant| invariant.outcome == Outcome::Ok), "{found:#?}");
    assert!(
        found
            .iter()
            .any(|invariant| invariant.notes.iter().any(|note| note.contains("2 e-mails are repeats")))
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

//! What customers are told twice, not at all, or for no reason.

use uuid::Uuid;

use super::{broken, judge, world::World};
use crate::verify::{
    facts::{DeadLetter, EventType, Group, Key, LetterState, NotificationKind, NotificationStatus},
    report::Outcome,
};

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
            told.kind = NotificationKind::OrderRefunded;
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
    broken(
        |w| {
            let refunded = NotificationKind::OrderRefunded;
            w.facts.notifications.retain(|notification| notification.kind != refunded);
        },
        &[("notifications", "ORDER_REFUNDED was never told")],
    );
    broken(
        |w| w.facts.notifications[0].status = NotificationStatus::Pending,
        &[("notifications", "is not delivered")],
    );
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

/// Gives up the e-mail of a shipment that never went out, and parks its request in the inbox of notifications.
fn given_up(w: &mut World) -> &mut DeadLetter {
    let (order, shipped) = (w.confirmed, NotificationKind::OrderShipped);
    let told = w.facts.notifications.iter_mut().find(|told| told.order_id == order && told.kind == shipped);
    let told = told.expect("there");
    told.status = NotificationStatus::GivenUp;
    w.facts.mails.remove(&format!("{}@orderly", told.id));
    let letter = w.letter(w.record(order, EventType::NotificationRequested));
    (letter.group, letter.copied, letter.undelivered) = (Group::Notification, false, true);
    letter
}

#[test]
fn what_no_channel_takes_is_said_and_breaks_nothing() {
    let note = "1 notification was given up: its channel would not take it";
    for state in [LetterState::Parked, LetterState::Replayed, LetterState::Discarded] {
        let mut world = World::new();
        let letter = given_up(&mut world);
        letter.state = state;
        letter.audited.push(state.name().to_owned());
        let found = judge(&world.facts);
        assert!(found.iter().all(|invariant| invariant.outcome == Outcome::Ok), "{found:#?}");
        assert!(found.iter().any(|invariant| invariant.notes == [note]), "{found:#?}");
    }
}

#[test]
fn what_was_given_up_is_a_dead_letter() {
    const NOBODY_KNOWS: (&str, &str) =
        ("notifications", "was given up, and no dead letter tells an operator");
    broken(|w| w.facts.notifications[0].status = NotificationStatus::GivenUp, &[NOBODY_KNOWS]);
    // One of another order, and one for two notifications.
    broken(
        |w| {
            let other = Key::Order(w.rejected);
            given_up(w).about = Some(other);
        },
        &[NOBODY_KNOWS],
    );
    broken(
        |w| {
            given_up(w);
            let (order, confirmed) = (w.confirmed, NotificationKind::OrderConfirmed);
            let mut told = w.facts.notifications.iter_mut().filter(|told| told.order_id == order);
            let told = told.find(|told| told.kind == confirmed).expect("there");
            told.status = NotificationStatus::GivenUp;
        },
        &[NOBODY_KNOWS],
    );
    // A replay that failed in another way has overwritten why it was parked.
    let mut world = World::new();
    let letter = given_up(&mut world);
    (letter.undelivered, letter.replayed) = (false, true);
    let found = judge(&world.facts);
    assert!(found.iter().all(|invariant| invariant.outcome == Outcome::Ok), "{found:#?}");
}

#[test]
fn an_e_mail_is_its_notifications_whatever_channel_it_has_now() {
    broken(
        |w| {
            let mailed = w.facts.notifications.iter_mut().find(|told| told.email).expect("there");
            mailed.email = false;
            assert!(w.facts.mails.contains_key(&format!("{}@orderly", mailed.id)));
        },
        &[],
    );
}

//! What customers are told twice, not at all, or for no reason.

use uuid::Uuid;

use super::{broken, judge, world::World};
use crate::verify::{
    facts::{NotificationKind, NotificationStatus},
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
    // What no channel takes is said, and breaks nothing.
    let mut world = World::new();
    let given_up = world.facts.notifications.iter_mut().find(|told| told.email).expect("there");
    given_up.status = NotificationStatus::GivenUp;
    world.facts.mails.remove(&format!("{}@orderly", given_up.id));
    let found = judge(&world.facts);
    assert!(found.iter().all(|invariant| invariant.outcome == Outcome::Ok), "{found:#?}");
    let notes: Vec<_> = found.iter().flat_map(|invariant| &invariant.notes).collect();
    assert_eq!(notes, ["1 notification was given up: its channel would not take it"]);
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

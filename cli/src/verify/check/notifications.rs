//! Every outcome, every shipment and every movement of money was told once, and the e-mails among them were sent.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::verify::{
    expected,
    facts::{Facts, Group, Key, NotificationKind, NotificationStatus},
    report::Invariant,
};

pub(super) fn check(facts: &Facts, invariant: &mut Invariant) {
    let wanted = wanted(facts);
    invariant.checked = wanted.len() as u64;
    let mut told = HashSet::with_capacity(wanted.len());
    let mut message_ids = HashSet::with_capacity(facts.notifications.len());
    let mut letters = letters(facts);
    let (mut repeats, mut given_up) = (0, 0_u64);
    for notification in &facts.notifications {
        let subject = format!(
            "notification {} ({} of order {})",
            notification.id, notification.kind, notification.order_id
        );
        let at = (notification.order_id, notification.kind);
        match wanted.get(&at) {
            None => invariant.offend(&subject, "nothing has caused it"),
            Some(customer) => invariant.expect(*customer == notification.customer_id, &subject, || {
                format!("went to customer {}, the order is of {customer}", notification.customer_id)
            }),
        }
        invariant.expect(told.insert(at), &subject, || "is the second of its kind".to_owned());
        let status = notification.status;
        if status == NotificationStatus::GivenUp {
            given_up += 1;
            let letter = letters.get_mut(&notification.order_id).filter(|count| **count > 0);
            invariant.expect(letter.is_some(), &subject, || {
                "was given up, and no dead letter tells an operator".to_owned()
            });
            letter.into_iter().for_each(|count| *count -= 1);
        }
        let is_open = status == NotificationStatus::Pending;
        invariant.expect(!is_open, &subject, || "is not delivered".to_owned());
        // A replay may take another channel than the first attempts, whose e-mails were sent nevertheless.
        let message_id = format!("{}@orderly", notification.id);
        let sent = facts.mails.get(&message_id).copied().unwrap_or(0);
        let is_due = notification.email && status == NotificationStatus::Delivered;
        invariant.expect(sent > 0 || !is_due, &subject, || "its e-mail was never sent".to_owned());
        repeats += sent.saturating_sub(1);
        message_ids.insert(message_id);
    }
    for ((order_id, kind), _) in wanted.iter().filter(|(at, _)| !told.contains(*at)) {
        invariant.offend(format_args!("order {order_id}"), format_args!("{kind} was never told"));
    }
    for message_id in facts.mails.keys().filter(|id| !message_ids.contains(*id)) {
        invariant.offend(format_args!("e-mail {message_id}"), "no notification has caused it");
    }
    match given_up {
        0 => {}
        1 => invariant.note("1 notification was given up: its channel would not take it"),
        n => invariant.note(format!("{n} notifications were given up: their channels would not take them")),
    }
    if repeats > 0 {
        invariant.note(format!(
            "{repeats} e-mails are repeats, with the Message-ID of the first; nothing promises otherwise"
        ));
    }
}

/// How many notifications of each order an operator knows, or has known, to be given up.
fn letters(facts: &Facts) -> HashMap<Uuid, usize> {
    let mut counts = HashMap::new();
    for letter in facts.dead_letters.iter().filter(|letter| letter.group == Group::Notification) {
        if let Some(Key::Order(order_id)) = letter.about
            && (letter.undelivered || letter.replayed)
        {
            *counts.entry(order_id).or_default() += 1;
        }
    }
    counts
}

/// What is to be told, and to whom.
fn wanted(facts: &Facts) -> HashMap<(Uuid, NotificationKind), &str> {
    let of_orders = facts.order_events.iter().filter_map(|event| {
        let order = facts.orders.get(&event.order_id)?;
        Some(((event.order_id, expected::told(event)?), order.customer_id.as_str()))
    });
    let charged = facts.payments.iter().filter(|payment| payment.reference.is_some());
    let receipts = charged
        .map(|payment| ((payment.order_id, NotificationKind::PaymentReceipt), payment.customer_id.as_str()));
    of_orders.chain(receipts).collect()
}

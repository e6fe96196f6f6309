//! The topics hold the records that the persisted truth has caused, and no other.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::verify::{
    expected,
    facts::{EventType, Facts, Key, Source, Topic, millis_of},
    report::Invariant,
    saga::steps,
};

type Identity = (Topic, Source, Key, i64);

struct Wanted {
    types: &'static [EventType],
    /// Its record is not older than this, in milliseconds since 1970.
    since_ms: i64,
    found: bool,
}

pub(super) fn check(facts: &Facts, invariant: &mut Invariant) {
    let mut wanted = wanted(facts);
    invariant.checked = wanted.len() as u64;
    let mut phantoms = HashSet::new();
    for record in &facts.log.records {
        let at = (record.topic, record.source, record.key.clone(), record.sequence);
        let problem = match wanted.get_mut(&at) {
            Some(wanted) if wanted.types.contains(&record.event_type) => {
                wanted.found = true;
                continue;
            }
            Some(wanted) => format!("{} where {} was to be", record.event_type, names(wanted.types)),
            None => format!("{} that nothing has caused", record.event_type),
        };
        // A phantom is one, however often it was repeated.
        if phantoms.insert(record.id) {
            let (partition, offset) = (record.partition, record.offset);
            invariant.offend(subject(&at), format_args!("phantom at {partition}/{offset}: {problem}"));
        }
    }
    for stray in &facts.log.strays {
        let subject = format_args!("{}/{}/{}", stray.topic, stray.partition, stray.offset);
        invariant.offend(subject, format_args!("no event of this platform: {}", stray.problem));
    }
    let mut unknown = 0_u64;
    for (at, wanted) in wanted.iter().filter(|(_, wanted)| !wanted.found) {
        if wanted.since_ms < facts.log.kept_since(at.0, &at.2) {
            unknown += 1;
        } else {
            invariant.offend(subject(at), format_args!("missing {}", names(wanted.types)));
        }
    }
    if unknown > 0 {
        invariant.checked -= unknown;
        invariant.note(format!(
            "{unknown} records not checked: older than their topic's retention, in partitions that have lost their first records"
        ));
    }
}

fn wanted(facts: &Facts) -> HashMap<Identity, Wanted> {
    let mut wanted = HashMap::with_capacity(facts.order_events.len() * 2);
    let mut want = |(topic, version, types), source, key, since_ms| {
        wanted.insert((topic, source, key, i64::from(version)), Wanted { types, since_ms, found: false });
    };
    for (before, event) in steps(&facts.order_events) {
        for (topic, types) in expected::of_order_event(&before, event) {
            let key = Key::Order(event.order_id);
            want((topic, event.version, types), Source::Order, key, event.occurred_ms);
        }
    }
    // Rows tell when their last version was made. No record of an order is older than the order.
    let since = |id, version, last, updated_ms| if version == last { updated_ms } else { millis_of(id) };
    for reservation in &facts.reservations {
        let (id, last) = (reservation.order_id, reservation.version);
        for record in expected::of_reservation(reservation) {
            let since_ms = since(id, record.1, last, reservation.updated_ms);
            want(record, Source::Inventory, Key::Order(id), since_ms);
        }
    }
    for payment in &facts.payments {
        let (id, last) = (payment.order_id, payment.version);
        let results = facts.log.of_key(Topic::PaymentResults, &Key::Order(id));
        for record in expected::of_payment(payment, results) {
            let since_ms = since(id, record.1, last, payment.updated_ms);
            want(record, Source::Billing, Key::Order(id), since_ms);
        }
    }
    for (id, product) in &facts.products {
        for (record, since_ms) in product.listed.iter().flat_map(expected::of_product) {
            want(record, Source::Inventory, Key::Product(Arc::clone(id)), since_ms);
        }
    }
    wanted
}

fn names(types: &[EventType]) -> String {
    types.iter().map(|name| name.name()).collect::<Vec<_>>().join(" or ")
}

fn subject((topic, source, key, sequence): &Identity) -> String {
    let what = key.noun();
    format!("{what} {key} in {topic} from {source} sequence {sequence}")
}

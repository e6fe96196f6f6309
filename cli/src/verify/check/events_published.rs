//! The topics hold the records that the persisted truth has caused, and no other.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::verify::{
    expected,
    facts::{EventType, Facts, Source, Topic, millis_of},
    report::Invariant,
};

type Identity = (Topic, Source, Uuid, i64);

struct Wanted {
    types: &'static [EventType],
    found: bool,
}

pub(super) fn check(facts: &Facts, invariant: &mut Invariant) {
    let mut wanted = wanted(facts);
    invariant.checked = wanted.len() as u64;
    let mut phantoms = HashSet::new();
    for record in &facts.log.records {
        let at = (record.topic, record.source, record.key, record.sequence);
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
            invariant.offend(subject(at), format_args!("phantom at {partition}/{offset}: {problem}"));
        }
    }
    for stray in &facts.log.strays {
        let subject = format_args!("{}/{}/{}", stray.topic, stray.partition, stray.offset);
        invariant.offend(subject, format_args!("no event of this platform: {}", stray.problem));
    }
    let mut unknown = 0_u64;
    for (at, wanted) in wanted.iter().filter(|(_, wanted)| !wanted.found) {
        // Its record is not older than its order.
        if millis_of(at.2) < facts.log.kept_since(at.0, at.2) {
            unknown += 1;
        } else {
            invariant.offend(subject(*at), format_args!("missing {}", names(wanted.types)));
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
    for event in &facts.order_events {
        for (topic, types) in expected::of_order_event(event.kind) {
            let at = (*topic, Source::Order, event.order_id, i64::from(event.version));
            wanted.insert(at, Wanted { types, found: false });
        }
    }
    for payment in &facts.payments {
        for (topic, version, types) in expected::of_payment(payment) {
            let at = (topic, Source::Billing, payment.order_id, i64::from(version));
            wanted.insert(at, Wanted { types, found: false });
        }
    }
    wanted
}

fn names(types: &[EventType]) -> String {
    types.iter().map(|name| name.name()).collect::<Vec<_>>().join(" or ")
}

fn subject((topic, source, key, sequence): Identity) -> String {
    format!("order {key} in {topic} from {source} sequence {sequence}")
}

//! Order per (topic, key, source): first occurrences rise in `ce_sequence`, in one partition, one event a sequence; and
//! the relay knows of no key that was overtaken, also where the records are not retained any more.

use std::collections::HashSet;

use crate::verify::{facts::Facts, report::Invariant};

pub(super) fn check(facts: &Facts, invariant: &mut Invariant) {
    let mut repeats = 0_u64;
    for of_key in facts.log.records.chunk_by(|one, next| one.topic == next.topic && one.key == next.key) {
        let first = &of_key[0];
        let elsewhere = of_key.iter().find(|record| record.partition != first.partition);
        if let Some(other) = elsewhere {
            let subject = format_args!("key {} in {}", first.key, first.topic);
            let (one, two) = (first.partition, other.partition);
            invariant.offend(subject, format_args!("is in partition {one} and in partition {two}"));
        }
        for of_source in of_key.chunk_by(|one, next| one.source == next.source) {
            invariant.checked += 1;
            let subject = format!("key {} in {} from {}", first.key, first.topic, of_source[0].source);
            let (mut ids, mut sequences) = (HashSet::new(), HashSet::new());
            let mut highest = i64::MIN;
            for record in of_source {
                if !ids.insert(record.id) {
                    repeats += 1;
                    continue;
                }
                let (sequence, offset) = (record.sequence, record.offset);
                if !sequences.insert(sequence) {
                    invariant.offend(
                        &subject,
                        format_args!("sequence {sequence} has two events, see offset {offset}"),
                    );
                } else if sequence < highest {
                    invariant.offend(
                        &subject,
                        format_args!("sequence {sequence} at offset {offset} follows {highest}"),
                    );
                }
                highest = highest.max(sequence);
            }
        }
    }
    for overtaken in &facts.overtaken {
        let subject = format_args!("key {} in {}", overtaken.key, overtaken.topic);
        let service = overtaken.database.service();
        invariant.offend(
            subject,
            format_args!(
                "was overtaken {} times, says the {service} outbox; `outbox-relay release` forgets it",
                overtaken.times
            ),
        );
    }
    if repeats > 0 {
        invariant.note(format!("{repeats} records are repeats of earlier ones, which the inboxes drop"));
    }
}

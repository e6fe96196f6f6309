//! Every record took effect once in the group that reads its topic, and per topic and key in the order of
//! `ce_sequence`.
//!
//! A dead letter is in the inbox from its parking on. Its place in the order is that of its replay, unless it took
//! effect in its turn.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::verify::{
    facts::{Facts, Group, InboxRow, Key, LetterState, Source, Topic},
    report::Invariant,
};

struct Seen<'f> {
    topic: Topic,
    key: &'f Key,
    sequence: i64,
    entries: u32,
}

pub(super) fn check(facts: &Facts, invariant: &mut Invariant) {
    let mut gone = 0_u64;
    for group in Group::ALL {
        gone += check_group(facts, group, invariant);
    }
    if gone > 0 {
        invariant.note(format!("{gone} inbox rows not checked: retention has removed their records"));
    }
}

/// Returns how many rows have lost their record to retention.
fn check_group(facts: &Facts, group: Group, invariant: &mut Invariant) -> u64 {
    let topics = group.topics();
    let mut seen: HashMap<(Source, Uuid), Seen<'_>> = HashMap::new();
    for record in facts.log.records.iter().filter(|record| topics.contains(&record.topic)) {
        let new = Seen { topic: record.topic, key: &record.key, sequence: record.sequence, entries: 0 };
        seen.entry((record.source, record.id)).or_insert(new);
    }
    invariant.checked += seen.len() as u64;

    let without_effect = without_effect(facts, group);
    let mut gone = 0;
    let mut order: Vec<(Topic, &Key, Source, i64, i64)> = Vec::with_capacity(seen.len());
    for row in facts.inbox.iter().filter(|row| row.group == group) {
        let at = Source::parse(&row.source).zip(Uuid::try_parse(&row.id).ok());
        match at.and_then(|at| seen.get_mut(&at).map(|record| (at.0, record))) {
            Some((source, record)) if row.topic == record.topic.name() => {
                record.entries += 1;
                if !without_effect.contains(&(row.source.as_str(), row.id.as_str())) {
                    order.push((record.topic, record.key, source, row.seq, record.sequence));
                }
            }
            Some(_) => {
                invariant.offend(subject(row), format_args!("took effect as a record of {}", row.topic));
            }
            None if is_gone(facts, row) => gone += 1,
            None => {
                let place = format!("{}/{}/{}", row.topic, row.partition, row.offset);
                invariant
                    .offend(subject(row), format_args!("took effect without a record; said to be {place}"));
            }
        }
    }
    for ((source, id), record) in &seen {
        let subject = format_args!("event {id} from {source} in group {group}");
        match record.entries {
            1 => {}
            // Its id is of a day that the inbox does not remember, which may be why it is a dead letter.
            0 if without_effect.contains(&(source.name(), id.to_string().as_str())) => {}
            0 => invariant.offend(subject, format_args!("no effect (key {}, {})", record.key, record.topic)),
            n => invariant.offend(
                subject,
                format_args!("took effect {n} times (key {}, {})", record.key, record.topic),
            ),
        }
    }
    order.sort_unstable();
    for pair in order.windows(2) {
        let ((topic, key, source, _, earlier), (next_topic, next_key, next_source, _, later)) =
            (pair[0], pair[1]);
        if (topic, key, source) == (next_topic, next_key, next_source) && later < earlier {
            let subject = format_args!("key {key} from {source} in group {group}");
            invariant.offend(subject, format_args!("sequence {later} took effect after {earlier} ({topic})"));
        }
    }
    gone
}

/// Dead letters that have not been replayed, or never will be.
fn without_effect(facts: &Facts, group: Group) -> HashSet<(&str, &str)> {
    let letters = facts.dead_letters.iter();
    letters
        .filter(|letter| {
            letter.group == group && letter.state != LetterState::Replayed && !letter.undelivered
        })
        .filter_map(|letter| letter.identity.as_ref())
        .map(|(source, id)| (source.as_str(), id.as_str()))
        .collect()
}

fn is_gone(facts: &Facts, row: &InboxRow) -> bool {
    let span = Topic::parse(&row.topic).and_then(|topic| facts.log.partitions.get(&(topic, row.partition)));
    span.is_some_and(|span| row.offset < span.low)
}

fn subject(row: &InboxRow) -> String {
    format!("event {} from {} in group {}", row.id, row.source, row.group)
}

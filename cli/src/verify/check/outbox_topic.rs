//! What an outbox still holds is in its topic byte for byte, and the other way round.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::verify::{
    facts::{Digest, Facts, Topic, millis_of},
    report::Invariant,
};

const DAY_MS: i64 = 86_400_000;

pub(super) fn check(facts: &Facts, invariant: &mut Invariant) {
    let published: HashSet<Digest> = facts.log.records.iter().map(|record| record.digest).collect();
    let published_ids: HashSet<Uuid> = facts.log.records.iter().map(|record| record.id).collect();
    let stored: HashSet<Digest> = facts.outbox.iter().map(|row| row.digest).collect();
    let stored_ids: HashMap<Uuid, Digest> =
        facts.outbox.iter().filter_map(|row| Some((row.event_id?, row.digest))).collect();

    let mut removed = 0_u64;
    // Copies of dead letters are no events; their rule looks at them.
    for row in facts.outbox.iter().filter(|row| !row.topic.ends_with(".dlq")) {
        invariant.checked += 1;
        if published.contains(&row.digest) {
            continue;
        }
        let id = row.event_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
        let subject = format!("event {id} (row {} of the {} outbox)", row.row, row.database.service());
        match Topic::parse(&row.topic) {
            None => invariant.offend(subject, format_args!("topic {} is not one of the platform", row.topic)),
            Some(_) if row.event_id.is_some_and(|id| published_ids.contains(&id)) => {
                invariant.offend(subject, format_args!("its record in {} has other bytes", row.topic));
            }
            Some(topic)
                if row.key.as_ref().is_some_and(|key| row.created_ms < facts.log.kept_since(topic, key)) =>
            {
                removed += 1;
            }
            Some(_) => invariant.offend(subject, format_args!("missing in {}", row.topic)),
        }
    }

    let mut cleared = 0_u64;
    let mut seen = HashSet::new();
    for record in facts.log.records.iter().filter(|record| !stored.contains(&record.digest)) {
        if !seen.insert(record.digest) {
            continue;
        }
        if let Some(right) = stored_ids.get(&record.id) {
            // Where the right bytes are missing, the row has been named above.
            if published.contains(right) {
                let subject = format!("event {} in {}", record.id, record.topic);
                invariant.offend(subject, "published a second time with other bytes");
            }
        } else if millis_of(record.id) / DAY_MS < facts.outbox_kept_since {
            cleared += 1;
        } else {
            let at = format!("{}/{}/{}", record.topic, record.partition, record.offset);
            invariant.offend(format_args!("event {} at {at}", record.id), "phantom: no outbox has it");
        }
    }
    if removed > 0 {
        invariant.checked -= removed;
        invariant.note(format!(
            "{removed} outbox rows not checked: older than their topic's retention, in partitions that have lost their first records"
        ));
    }
    if cleared > 0 {
        invariant
            .note(format!("{cleared} records not checked: their outbox rows are cleared after two days"));
    }
}

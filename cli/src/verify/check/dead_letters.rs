//! Dead letters: nothing waits for nothing, nothing is parked twice, and what was done with each is written down.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::verify::{
    facts::{DeadLetter, Facts, Group, Hold, LetterState, millis_of},
    report::Invariant,
};

const DAY_MS: i64 = 86_400_000;

type Key<'f> = (Group, &'f str, &'f [u8]);

pub(super) fn check(facts: &Facts, invariant: &mut Invariant) {
    invariant.checked = (facts.dead_letters.len() + facts.holds.len()) as u64;
    holds(facts, invariant);
    once(facts, invariant);
    history(facts, invariant);
    inbox(facts, invariant);
    copies(facts, invariant);
    match facts.dead_letters.iter().filter(|letter| letter.state.is_open()).count() {
        0 => {}
        1 => invariant.note("1 record waits as a dead letter: `orderly dlq list`"),
        open => invariant.note(format!("{open} records wait as dead letters: `orderly dlq list`")),
    }
}

/// A key is held by the first of its open letters, and whatever waits, waits behind that one.
fn holds(facts: &Facts, invariant: &mut Invariant) {
    let by_id: HashMap<_, _> =
        facts.dead_letters.iter().map(|letter| ((letter.group, letter.id), letter)).collect();
    let holds: HashMap<Key<'_>, &Hold> = facts.holds.iter().map(|hold| (hold.key(), hold)).collect();
    let mut first: HashMap<Key<'_>, &DeadLetter> = HashMap::new();
    // What was given up has had its turn: nothing waits for it.
    for letter in facts.dead_letters.iter().filter(|letter| letter.state.is_open() && !letter.undelivered) {
        let Some(key) = letter.key() else { continue };
        let known = first.entry(key).or_insert(letter);
        if letter.seq < known.seq {
            *known = letter;
        }
    }
    for hold in &facts.holds {
        let subject = format_args!("hold of a key of {} in group {}", hold.topic, hold.group);
        match by_id.get(&(hold.group, hold.head)) {
            None => invariant.offend(subject, format_args!("its letter {} does not exist", hold.head)),
            Some(head) if !head.state.is_open() => {
                invariant.offend(subject, format_args!("its letter {} is {} already", head.id, head.state));
            }
            Some(head) => match first.get(&hold.key()) {
                Some(first) if first.id == head.id => {}
                Some(first) => invariant.offend(
                    subject,
                    format_args!("its letter {} is not the first of the key, {} is", head.id, first.id),
                ),
                None => invariant.offend(subject, format_args!("its letter {} is of another key", head.id)),
            },
        }
    }
    for letter in facts.dead_letters.iter().filter(|letter| letter.state == LetterState::Held) {
        match letter.key().and_then(|key| holds.get(&key)) {
            None => invariant.offend(letter, "waits, and nothing holds its key"),
            Some(hold) if hold.head == letter.id => {
                invariant.expect(letter.replaying, letter, || {
                    "is the next of its key, and no replay is to process it".to_owned()
                });
            }
            Some(hold) => {
                let head = by_id.get(&(hold.group, hold.head));
                invariant.expect(head.is_none_or(|head| head.seq < letter.seq), letter, || {
                    format!("waits for letter {}, which came after it", hold.head)
                });
            }
        }
    }
}

fn once(facts: &Facts, invariant: &mut Invariant) {
    let mut parked: HashMap<(Group, &str, &str), Uuid> = HashMap::new();
    for letter in &facts.dead_letters {
        let Some((source, id)) = &letter.identity else { continue };
        if let Some(other) = parked.insert((letter.group, source, id), letter.id) {
            invariant.offend(letter, format_args!("event {id} from {source} is letter {other}, too"));
        }
    }
}

fn history(facts: &Facts, invariant: &mut Invariant) {
    for letter in &facts.dead_letters {
        invariant.expect(!letter.audited.is_empty(), letter, || "the audit knows nothing of it".to_owned());
        let end = letter.state.name();
        let told = letter.state.is_open() || letter.audited.iter().any(|action| action == end);
        invariant.expect(told, letter, || format!("is {end}, and the audit does not say by whom"));
    }
}

/// What was replayed stays in the inbox, where a second delivery is known.
fn inbox(facts: &Facts, invariant: &mut Invariant) {
    let rows: HashSet<(Group, &str, &str)> =
        facts.inbox.iter().map(|row| (row.group, row.source.as_str(), row.id.as_str())).collect();
    for letter in facts.dead_letters.iter().filter(|letter| letter.state == LetterState::Replayed) {
        let Some((source, id)) = &letter.identity else { continue };
        let Ok(made) = Uuid::try_parse(id).map(|id| millis_of(id) / DAY_MS) else { continue };
        let is_there = !facts.inbox_days.contains(&made) || rows.contains(&(letter.group, source, id));
        invariant.expect(is_there, letter, || format!("was replayed, and event {id} is not in the inbox"));
    }
}

/// What has failed was copied for its topic, in the same transaction.
fn copies(facts: &Facts, invariant: &mut Invariant) {
    let copied: HashSet<(Uuid, &str)> =
        facts.outbox.iter().filter_map(|row| Some((row.event_id?, row.topic.as_str()))).collect();
    for letter in facts.dead_letters.iter().filter(|letter| letter.copied) {
        let topic = format!("{}.{}.dlq", letter.topic, letter.group);
        let cleared = millis_of(letter.id) / DAY_MS < facts.outbox_kept_since;
        let is_there = cleared || copied.contains(&(letter.id, topic.as_str()));
        invariant
            .expect(is_there, letter, || format!("has failed, and its outbox holds no copy for {topic}"));
    }
}

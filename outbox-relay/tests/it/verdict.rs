//! What arrived against what was committed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    time::Duration,
};

use sqlx::FromRow;
use uuid::Uuid;

use crate::{
    records::{Record, Records},
    scene::{Scene, TOPICS, Topics},
    writers::{Tally, event, is_too_large},
};

/// How long a relay may take to publish what is left when the writers have stopped.
pub const DRAIN: Duration = Duration::from_secs(60);

/// The truth about one event.
#[derive(Debug, FromRow)]
pub struct Posting {
    event_id: Uuid,
    topic: String,
    key: String,
    sequence: i64,
}

/// Nothing is wrong.
#[derive(Debug)]
pub struct Verdict {
    committed: usize,
    repeats: usize,
}

/// What is wrong in which topic, each with how often and the first example.
#[derive(Debug, Default)]
struct Faults(BTreeMap<(&'static str, String), (usize, String)>);

impl Scene {
    /// With the writers stopped and one relay at work: waits until it has drained the outbox, and judges.
    pub async fn judge(&self, tally: &Tally, payload: usize) -> anyhow::Result<Verdict> {
        self.judge_with(tally, payload, TOPICS).await
    }

    /// The same of other topics. What is too large for its topic is not to be there.
    pub async fn judge_with(&self, tally: &Tally, payload: usize, topics: Topics) -> anyhow::Result<Verdict> {
        self.drained(DRAIN).await?;
        let postings: Vec<Posting> = sqlx::query_as("select event_id, topic, key, sequence from posting")
            .fetch_all(&self.superuser)
            .await?;
        let mut records = Records::of(&self.servers.kafka, &self.prefix, topics)?;
        judge(&postings, &tally.acknowledged(), records.read_to_the_end()?, payload, topics)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events committed and published, {} repeats", self.committed, self.repeats)
    }
}

/// `acknowledged` are the events whose writers were told that they are committed.
pub fn judge(
    postings: &[Posting],
    acknowledged: &HashSet<Uuid>,
    records: &[Record],
    payload: usize,
    topics: Topics,
) -> anyhow::Result<Verdict> {
    let mut faults = Faults::default();
    let truth: HashMap<Uuid, &Posting> = postings.iter().map(|posting| (posting.event_id, posting)).collect();
    for id in acknowledged.iter().filter(|id| !truth.contains_key(id)) {
        faults.add("forgotten by PostgreSQL", "any", id);
    }
    let (mut seen, mut repeats) = (HashSet::new(), 0);
    let (mut last, mut homes) = (HashMap::new(), HashMap::new());
    for record in records {
        let Some((id, posting)) = record.id().and_then(|id| Some((id, *truth.get(&id)?))) else {
            faults.add("never committed", &record.topic, record);
            continue;
        };
        let key = (posting.topic.as_str(), posting.key.as_str());
        if *homes.entry(key).or_insert(record.partition) != record.partition {
            faults.add("in another partition than its key", key.0, posting);
        }
        if !seen.insert(id) {
            repeats += 1;
        } else if let Some(before) = last.insert(key, posting.sequence)
            && before > posting.sequence
        {
            faults.add(
                "overtaken by a later one of its key",
                key.0,
                format!("{before} came before {posting:?}"),
            );
        }
        if !is_of(record, posting, payload, topics) {
            faults.add("changed on its way", key.0, format!("{posting:?} became {record:?}"));
        }
    }
    for posting in postings {
        match (seen.contains(&posting.event_id), is_too_large(&posting.topic, posting.sequence)) {
            (false, false) => faults.add("lost", &posting.topic, posting),
            (true, true) => faults.add("published though too large", &posting.topic, posting),
            _ => {}
        }
    }
    anyhow::ensure!(!postings.is_empty(), "nothing was committed");
    anyhow::ensure!(faults.0.is_empty(), "of {} committed events: {:?}", postings.len(), faults.0);
    Ok(Verdict { committed: postings.len(), repeats })
}

/// Whether topic, key, headers and payload are those that were appended.
fn is_of(record: &Record, posting: &Posting, payload: usize, topics: Topics) -> bool {
    let Some((topic, _)) = topics.iter().find(|(topic, _)| *topic == posting.topic) else { return false };
    let event = event(posting.event_id, topic, &posting.key, posting.sequence, payload);
    (&record.topic, &record.key, &record.headers, &record.payload)
        == (&posting.topic, &event.key, &event.headers, &event.payload)
}

impl Faults {
    fn add(&mut self, fault: &'static str, topic: &str, example: impl fmt::Debug) {
        let (count, _) =
            self.0.entry((fault, topic.to_owned())).or_insert_with(|| (0, format!("{example:?}")));
        *count += 1;
    }
}

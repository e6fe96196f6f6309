//! How old the oldest record is that a group has not committed: the time of the record itself, read from its partition.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};

use super::snapshot::{Partition, Position};

/// How long the records of all partitions may take together. What is missing by then is unknown this time.
const WITHIN: Duration = Duration::from_secs(3);

/// Reads single records, with a client that is assigned partitions and joins no group.
pub(super) struct Oldest {
    prefix: String,
    /// What was found the last time: offset asked for, and the record's time. A group that stands still is not read anew.
    known: HashMap<Place, (i64, Found)>,
}

/// A topic that a group reads: the group, and the topic.
type Read = (&'static str, &'static str);
/// The same, and a partition of it.
type Place = (Read, i32);

/// What a partition holds from an offset on.
#[derive(Clone, Copy, Debug)]
enum Found {
    /// A record of this time, in milliseconds since the epoch.
    Record(i64),
    /// No record up to the end: only marks of transactions, or what compaction has left out.
    Nothing,
}

/// Lets a client read single records. It must know the topics already: one that has just met a topic waits for its
/// leader, for seconds where brokers are busy.
pub(super) fn configure(config: &mut ClientConfig, prefix: &str) {
    config
        // A client cannot be assigned partitions without one. It never appears on a broker.
        .set("group.id", format!("{prefix}orderly-exporter"))
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        // One record of each partition is enough; its batch comes with it.
        .set("max.partition.fetch.bytes", "16384")
        .set("queued.min.messages", "1")
        // With more than that at hand a partition is left alone for a second, also when it is assigned anew.
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.error.backoff.ms", "50")
        .set("fetch.wait.max.ms", "50")
        .set("check.crcs", "false");
}

impl Oldest {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), known: HashMap::new() }
    }

    /// Says of each position how old its oldest record is. What could not be read, and why, is added to `missing`.
    pub(super) fn fill(
        &mut self,
        client: &BaseConsumer,
        positions: &mut [Position],
        partitions: &[Partition],
        missing: &mut BTreeMap<String, String>,
    ) {
        let from = |position: &Position| {
            let is = |known: &&Partition| known.id == position.partition && known.topic == position.topic;
            let low = partitions.iter().find(is)?.ends?.low;
            Some(position.committed.unwrap_or(low).max(low))
        };
        let place = |position: &Position| ((position.group, position.topic), position.partition);
        let mut unread: BTreeMap<Read, HashMap<i32, i64>> = BTreeMap::new();
        let mut known = HashMap::new();
        for position in positions.iter().filter(|position| position.lag > 0) {
            let (place, Some(from)) = (place(position), from(position)) else {
                continue;
            };
            match self.known.get(&place) {
                // What was not there may have come.
                Some(&(at, found @ Found::Record(_))) if at == from => {
                    known.insert(place, (from, found));
                }
                _ => {
                    unread.entry(place.0).or_default().insert(position.partition, from);
                }
            }
        }
        let deadline = Instant::now() + WITHIN;
        for (read, offsets) in unread {
            let found = self.read(client, read.1, &offsets, deadline).unwrap_or_else(|error| {
                missing.insert(age(read), format!("{error:#}"));
                HashMap::new()
            });
            if found.len() < offsets.len() {
                missing.entry(age(read)).or_insert_with(|| "not read in time".to_owned());
            }
            for (partition, found) in found {
                known.insert((read, partition), (offsets[&partition], found));
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        for position in positions {
            position.lag_seconds = match known.get(&place(position)) {
                _ if position.lag == 0 => Some(0.0),
                Some((_, Found::Record(time))) => Some((now - time).max(0) as f64 / 1000.0),
                Some((_, Found::Nothing)) => Some(0.0),
                None => None,
            };
        }
        self.known = known;
    }

    /// The first record of each of these partitions from an offset on. Of one topic, because the end of a partition
    /// comes without its topic's name.
    fn read(
        &self,
        client: &BaseConsumer,
        topic: &str,
        from: &HashMap<i32, i64>,
        deadline: Instant,
    ) -> anyhow::Result<HashMap<i32, Found>> {
        let name = format!("{}{topic}", self.prefix);
        let mut list = TopicPartitionList::new();
        for (&partition, &offset) in from {
            list.add_partition_offset(&name, partition, Offset::Offset(offset))?;
        }
        client.assign(&list)?;
        let mut found = HashMap::new();
        while found.len() < from.len() {
            match client.poll(deadline.saturating_duration_since(Instant::now())) {
                None => break,
                Some(Ok(message)) => {
                    let time = message.timestamp().to_millis().map_or(Found::Nothing, Found::Record);
                    if from.contains_key(&message.partition()) {
                        found.entry(message.partition()).or_insert(time);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    found.entry(partition).or_insert(Found::Nothing);
                }
                // Such as an offset that retention has just removed: unknown, until the next time.
                Some(Err(error)) => tracing::debug!(%error, topic, "oldest record"),
            }
        }
        client.unassign()?;
        Ok(found)
    }
}

/// What is missing where it is not known how long records have waited.
fn age((group, topic): Read) -> String {
    format!("age of what {group} has not read of {topic}")
}

//! Asks Kafka: metadata, watermarks, committed offsets, and the age of the oldest record that is not committed.
//!
//! Groups are asked with `OffsetFetch`, by clients that carry their names and never subscribe. Listing groups instead
//! would show those of KIP-848 as dead.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use super::{
    oldest::{self, Oldest},
    snapshot::{Ends, Partition, Position, Snapshot},
};
use crate::topics;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long all questions may take together; what is left then is not asked.
const WITHIN: Duration = Duration::from_secs(15);

/// Clients that are kept from one time to the next. Every call blocks.
pub struct Collector {
    prefix: String,
    topics: HashSet<String>,
    client: BaseConsumer,
    groups: Vec<Group>,
    oldest: Oldest,
}

struct Group {
    name: &'static str,
    topics: Vec<&'static str>,
    client: BaseConsumer,
}

impl Collector {
    /// Makes the clients; whether Kafka answers is seen later.
    ///
    /// # Errors
    /// When librdkafka refuses its configuration.
    pub fn new(kafka: &str, prefix: &str) -> anyhow::Result<Self> {
        let mut read: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (topic, group) in topics::READ {
            read.entry(group).or_default().push(topic);
        }
        let groups = read.into_iter().map(|(name, topics)| {
            let client = config(kafka).set("group.id", format!("{prefix}{name}")).create();
            Ok(Group { name, topics, client: client.context("Kafka's client")? })
        });
        let mut client = config(kafka);
        oldest::configure(&mut client, prefix);
        Ok(Self {
            prefix: prefix.to_owned(),
            topics: topics::names().collect(),
            client: client.create().context("Kafka's client")?,
            groups: groups.collect::<anyhow::Result<_>>()?,
            oldest: Oldest::new(prefix),
        })
    }

    /// Asks about everything. A topic or a group without an answer is missing, and all others are told.
    ///
    /// # Errors
    /// When not even the metadata comes: nothing is known then.
    pub fn collect(&mut self) -> anyhow::Result<Snapshot> {
        let deadline = Instant::now() + WITHIN;
        let (brokers, mut partitions) = self.partitions()?;
        let mut missing = BTreeMap::new();
        let topics: BTreeSet<String> = partitions.iter().map(|partition| partition.topic.clone()).collect();
        for topic in topics {
            let mut of: Vec<&mut Partition> =
                partitions.iter_mut().filter(|partition| partition.topic == topic).collect();
            if let Err(error) = self.fill_ends(&topic, &mut of, deadline) {
                of.into_iter().for_each(|partition| partition.ends = None);
                missing.insert(format!("topic {topic}"), format!("{error:#}"));
            }
        }
        let mut positions = Vec::new();
        for group in &self.groups {
            match self.positions(group, &partitions, deadline) {
                Ok(found) => positions.extend(found),
                Err(error) => {
                    missing.insert(format!("group {}", group.name), format!("{error:#}"));
                }
            }
        }
        self.oldest.fill(&self.client, &mut positions, &partitions, &mut missing);
        Ok(Snapshot { brokers, partitions, positions, missing })
    }

    /// Both ends of every partition of a topic that has a leader.
    fn fill_ends(&self, topic: &str, of: &mut [&mut Partition], deadline: Instant) -> anyhow::Result<()> {
        let ids: Vec<i32> = of.iter().filter(|of| of.ends.is_some()).map(|of| of.id).collect();
        let lows = self.ends(topic, &ids, Offset::Beginning, deadline).context("oldest offsets")?;
        let highs = self.ends(topic, &ids, Offset::End, deadline).context("newest offsets")?;
        for partition in of {
            let place = (partition.topic.clone(), partition.id);
            partition.ends = lows.get(&place).zip(highs.get(&place)).map(|(&low, &high)| Ends { low, high });
        }
        Ok(())
    }

    /// Brokers, and the partitions of the platform's topics; their ends are still to be asked for.
    fn partitions(&self) -> anyhow::Result<(usize, Vec<Partition>)> {
        let metadata = self.client.fetch_metadata(None, PATIENCE).context("metadata")?;
        let mut partitions = Vec::new();
        for topic in metadata.topics() {
            let Some(name) = topic.name().strip_prefix(&self.prefix) else { continue };
            if !self.topics.contains(name) {
                continue;
            }
            partitions.extend(topic.partitions().iter().map(|partition| Partition {
                topic: name.to_owned(),
                id: partition.id(),
                is_under_replicated: partition.isr().len() < partition.replicas().len(),
                // Where there is no leader, nobody can be asked.
                ends: (partition.leader() >= 0).then_some(Ends { low: 0, high: 0 }),
            }));
        }
        Ok((metadata.brokers().len(), partitions))
    }

    /// One end of these partitions of a topic, in one request a broker: -2 and -1 instead of a time mean the ends.
    fn ends(&self, topic: &str, ids: &[i32], end: Offset, deadline: Instant) -> anyhow::Result<Offsets> {
        let mut list = TopicPartitionList::new();
        for id in ids {
            list.add_partition_offset(&format!("{}{topic}", self.prefix), *id, end)?;
        }
        if list.count() == 0 {
            return Ok(Offsets::new());
        }
        let found = self.client.offsets_for_times(list, patience(deadline)?)?;
        let ends = offsets(&found, &self.prefix)?;
        ensure!(ends.len() == found.count(), "a partition has no end");
        Ok(ends)
    }

    fn positions(
        &self,
        group: &Group,
        partitions: &[Partition],
        deadline: Instant,
    ) -> anyhow::Result<Vec<Position>> {
        let read = |topic: &str| group.topics.iter().copied().find(|read| *read == topic);
        let mut list = TopicPartitionList::new();
        for partition in partitions.iter().filter(|partition| read(&partition.topic).is_some()) {
            list.add_partition(&format!("{}{}", self.prefix, partition.topic), partition.id);
        }
        if list.count() == 0 {
            return Ok(Vec::new());
        }
        let committed = offsets(&group.client.committed_offsets(list, patience(deadline)?)?, &self.prefix)?;
        let position = |partition: &Partition| {
            let committed = committed.get(&(partition.topic.clone(), partition.id)).copied();
            let topic = read(&partition.topic)?;
            Some(Position::of(group.name, topic, partition.id, committed, partition.ends?))
        };
        Ok(partitions.iter().filter_map(position).collect())
    }
}

/// Offsets by topic without prefix and partition.
type Offsets = BTreeMap<(String, i32), i64>;

/// How long the next answer may take.
fn patience(deadline: Instant) -> anyhow::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    ensure!(!left.is_zero(), "not asked: other answers took too long");
    Ok(left.min(PATIENCE))
}

/// The offsets of an answer. What has none is not among them.
fn offsets(list: &TopicPartitionList, prefix: &str) -> anyhow::Result<Offsets> {
    let mut offsets = Offsets::new();
    for element in list.elements() {
        element.error()?;
        let topic = element.topic().strip_prefix(prefix).unwrap_or(element.topic());
        if let Offset::Offset(offset) = element.offset() {
            offsets.insert((topic.to_owned(), element.partition()), offset);
        }
    }
    Ok(offsets)
}

/// A client that commits nothing and subscribes to nothing.
fn config(kafka: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", kafka)
        .set("client.id", "orderly-exporter")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // The end of what is there, also where a transaction is still open.
        .set("isolation.level", "read_uncommitted")
        // Not ten seconds, for which a broker that is back would go on looking away.
        .set("reconnect.backoff.max.ms", "1000")
        // Brokers that are away are told of once, by the exporter itself.
        .set("log_level", "2");
    config
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

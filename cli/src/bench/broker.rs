//! The broker as an observer sees it: topics, how many records they hold, and what is in them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};
use tokio::time::{Instant, sleep};

use super::record;

/// Partitions of every topic, as in production.
pub(super) const PARTITIONS: i32 = 12;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(20);

/// A connection to the broker that watches.
#[derive(Clone)]
pub(super) struct Broker {
    address: String,
    client: Arc<BaseConsumer>,
}

/// What a topic holds.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    /// When the broker appended each record, in milliseconds since 1970, ascending.
    pub(super) appended: Vec<i64>,
    /// Seen at least once.
    pub(super) distinct: u64,
    /// Records whose number was there already.
    pub(super) repeats: u64,
    /// First occurrences that came after a later one of their key.
    pub(super) overtaken: u64,
}

impl Broker {
    pub(super) fn connect(address: &str) -> anyhow::Result<Self> {
        Ok(Self { address: address.to_owned(), client: Arc::new(consumer(address)?) })
    }

    /// Makes a topic whose records carry the time at which the broker appended them, and waits until it can be used.
    pub(super) async fn create(&self, topic: &str) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.address).create()?;
        let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
        let new = new.set("message.timestamp.type", "LogAppendTime");
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        for created in admin.create_topics([&new], &options).await? {
            created.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
        }
        let deadline = Instant::now() + PATIENCE;
        while let Err(err) = self.ends(topic).await {
            if Instant::now() > deadline {
                return Err(err.context(format!("topic {topic} is not usable")));
            }
            sleep(AGAIN).await;
        }
        Ok(())
    }

    /// How many records the topic holds: the sum of its high watermarks.
    pub(super) async fn held(&self, topic: &str) -> anyhow::Result<u64> {
        Ok(sum(&self.ends(topic).await?))
    }

    /// The end of each partition, as positions to consume from.
    pub(super) async fn ends(&self, topic: &str) -> anyhow::Result<TopicPartitionList> {
        let (client, topic) = (Arc::clone(&self.client), topic.to_owned());
        let ask = move || {
            let mut partitions = TopicPartitionList::new();
            for partition in 0..PARTITIONS {
                partitions.add_partition_offset(&topic, partition, Offset::End)?;
            }
            // One request for all partitions; -1 instead of a time means the end.
            let ends = client.offsets_for_times(partitions, PATIENCE)?;
            for end in ends.elements() {
                end.error().with_context(|| format!("the end of {topic}/{}", end.partition()))?;
                if !matches!(end.offset(), Offset::Offset(_)) {
                    bail!("{topic}/{} has no end", end.partition());
                }
            }
            Ok(ends)
        };
        tokio::task::spawn_blocking(ask).await?
    }

    /// Reads the whole topic.
    pub(super) async fn read(&self, topic: &str) -> anyhow::Result<Contents> {
        let ends = self.ends(topic).await?;
        let (address, topic) = (self.address.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || read(&address, &topic, sum(&ends))).await?
    }
}

/// A consumer without a group that asks again at once and waits for nothing.
pub(super) fn consumer(address: &str) -> anyhow::Result<BaseConsumer> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", address)
        // Never joined or committed to: librdkafka wants a name for positions all the same.
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("fetch.wait.max.ms", "20")
        .set("fetch.min.bytes", "1")
        .create()?)
}

fn read(address: &str, topic: &str, records: u64) -> anyhow::Result<Contents> {
    let consumer = consumer(address)?;
    let mut from = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        from.add_partition_offset(topic, partition, Offset::Offset(0))?;
    }
    consumer.assign(&from)?;
    let (mut appended, mut seen) = (Vec::new(), Seen::default());
    for read in 0..records {
        let Some(message) = consumer.poll(PATIENCE) else {
            bail!("{topic}: only {read} of {records} records came")
        };
        let message = message?;
        appended.push(message.timestamp().to_millis().context("a record without a time")?);
        let number =
            record::number(&message).with_context(|| format!("{topic} holds a record of somebody else"))?;
        seen.add(number, message.key().unwrap_or_default());
    }
    appended.sort_unstable();
    let Seen { distinct, repeats, overtaken, .. } = seen;
    Ok(Contents { appended, distinct, repeats, overtaken })
}

/// What was seen so far, in the order of arrival.
#[derive(Debug, Default)]
pub(super) struct Seen {
    numbers: Vec<bool>,
    last: HashMap<Box<[u8]>, u64>,
    pub(super) distinct: u64,
    pub(super) repeats: u64,
    pub(super) overtaken: u64,
}

impl Seen {
    /// Counts a record; `false` when it is a repeat.
    pub(super) fn add(&mut self, number: u64, key: &[u8]) -> bool {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        if index >= self.numbers.len() {
            self.numbers.resize((index + 1).next_power_of_two(), false);
        }
        if std::mem::replace(&mut self.numbers[index], true) {
            self.repeats += 1;
            return false;
        }
        self.distinct += 1;
        match self.last.get_mut(key) {
            None => {
                self.last.insert(key.into(), number);
            }
            Some(last) if *last > number => self.overtaken += 1,
            Some(last) => *last = number,
        }
        true
    }
}

fn sum(ends: &TopicPartitionList) -> u64 {
    let offset = |end: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match end.offset() {
        Offset::Offset(offset) => u64::try_from(offset).unwrap_or_default(),
        _ => 0,
    };
    ends.elements().into_iter().map(offset).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_told_from_what_was_overtaken() {
        let mut seen = Seen::default();
        for (number, key) in
            [(0, b"a"), (2, b"a"), (1, b"b"), (1, b"b"), (0, b"a"), (5, b"b"), (4, b"b"), (3, b"a")]
        {
            seen.add(number, key);
        }
        assert_eq!((seen.distinct, seen.repeats, seen.overtaken), (6, 2, 1));
    }
}

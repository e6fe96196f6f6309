//! A topic whose records a test changes, although Kafka only appends: it is made anew, with other records in it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    message::{Message as _, OwnedMessage},
    producer::{FutureProducer, FutureRecord, Producer as _},
};
use testkit::until;

const PARTITIONS: i32 = 12;
/// The longest wait for an answer.
const WITHIN: Duration = Duration::from_secs(20);

/// A topic, and the records that it has held when this value was made.
pub struct Topic {
    kafka: String,
    name: String,
    records: Vec<OwnedMessage>,
}

impl Topic {
    pub fn read(kafka: &str, name: String) -> anyhow::Result<Self> {
        let reader = client(kafka, "reads-without-a-group")?;
        let (mut all, mut left) = (TopicPartitionList::new(), 0);
        for partition in 0..PARTITIONS {
            let (low, high) = reader.fetch_watermarks(&name, partition, WITHIN)?;
            all.add_partition_offset(&name, partition, Offset::Offset(low))?;
            left += high - low;
        }
        reader.assign(&all)?;
        let mut records = Vec::new();
        while left > 0 {
            // An empty poll may be the client's own event.
            let record = (0..100).find_map(|_| reader.poll(Duration::from_millis(100)));
            records.push(record.context("a record below the high watermark")??.detach());
            left -= 1;
        }
        Ok(Self { kafka: kafka.to_owned(), name, records })
    }

    /// Leaves it with its records after this change.
    pub async fn change(&self, change: impl FnOnce(&mut Vec<OwnedMessage>)) -> anyhow::Result<()> {
        let mut records = self.records.clone();
        change(&mut records);
        self.hold(&records).await
    }

    /// Leaves it with the records that it had.
    pub async fn restore(&self) -> anyhow::Result<()> {
        self.hold(&self.records).await
    }

    /// Removes the records of every partition but that of a key, as retention does, and says that they were due or not.
    pub async fn empty(&self, but: &str, expired: bool) -> anyhow::Result<()> {
        let kept = self.records.iter().find(|record| record.key() == Some(but.as_bytes()));
        let kept = kept.context("a record of that key")?.partition();
        let mut removed = TopicPartitionList::new();
        for record in self.records.iter().filter(|record| record.partition() != kept) {
            let partition = record.partition();
            if removed.find_partition(&self.name, partition).is_none() {
                removed.add_partition_offset(&self.name, partition, Offset::End)?;
            }
        }
        anyhow::ensure!(removed.count() > 0, "every record is in partition {kept}");
        let admin: AdminClient<DefaultClientContext> = config(&self.kafka).create()?;
        let options = AdminOptions::new().operation_timeout(Some(WITHIN)).request_timeout(Some(WITHIN));
        for partition in admin.delete_records(&removed, &options).await?.elements() {
            partition.error()?;
        }
        if !expired {
            return Ok(());
        }
        let topic = ResourceSpecifier::Topic(&self.name);
        // Compaction leaves the records that are still being written to; deletion would race with the audit.
        let settings = AlterConfig::new(topic).set("retention.ms", "1").set("cleanup.policy", "compact");
        for altered in admin.alter_configs([&settings], &options).await? {
            altered.map_err(|(_, code)| anyhow::anyhow!("{code}"))?;
        }
        // The controller answers before the broker has heard of it.
        until("records expire after a millisecond", WITHIN, || async {
            let described = admin.describe_configs([&topic], &options).await?.pop().context("a topic")?;
            let described = described.map_err(|code| anyhow::anyhow!("{code}"))?;
            let retention = described.get("retention.ms").and_then(|entry| entry.value.as_deref());
            Ok((retention == Some("1")).then_some(()))
        })
        .await
    }

    async fn hold(&self, records: &[OwnedMessage]) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = config(&self.kafka).create()?;
        let options = AdminOptions::new().operation_timeout(Some(WITHIN)).request_timeout(Some(WITHIN));
        for deleted in admin.delete_topics(&[&self.name], &options).await? {
            deleted.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
        }
        // The controller answers before the broker has heard of it, which so long takes records for the old topic.
        until("the topic is gone", WITHIN, || async {
            let known = admin.inner().fetch_metadata(Some(&self.name), WITHIN)?;
            Ok(known.topics().iter().all(|topic| topic.error().is_some()).then_some(()))
        })
        .await?;
        until("the topic is there again", WITHIN, || async {
            let topic = NewTopic::new(&self.name, PARTITIONS, TopicReplication::Fixed(1));
            Ok(admin
                .create_topics([&topic], &options)
                .await?
                .into_iter()
                .all(|made| made.is_ok())
                .then_some(()))
        })
        .await?;
        let producer: FutureProducer = config(&self.kafka).set("linger.ms", "0").create()?;
        until("its partitions answer", WITHIN, || async {
            let ends = (0..PARTITIONS).map(|id| producer.client().fetch_watermarks(&self.name, id, WITHIN));
            Ok(ends.collect::<Result<Vec<_>, _>>().ok().map(drop))
        })
        .await?;
        for record in records {
            let mut again = FutureRecord::<[u8], [u8]>::to(&self.name).partition(record.partition());
            (again.key, again.payload) = (record.key(), record.payload());
            again.timestamp = record.timestamp().to_millis();
            again.headers = record.clone().detach_headers();
            producer.send(again, WITHIN).await.map_err(|(error, _)| error)?;
        }
        Ok(())
    }
}

/// What a group that nobody is in has read of a topic.
pub struct Position {
    client: BaseConsumer,
    read: TopicPartitionList,
}

impl Position {
    pub fn of(kafka: &str, group: &str, topic: &str) -> anyhow::Result<Self> {
        let client = client(kafka, group)?;
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_range(topic, 0, PARTITIONS - 1);
        let committed = client.committed_offsets(partitions, WITHIN)?;
        let mut read = TopicPartitionList::new();
        for element in committed.elements() {
            if let offset @ Offset::Offset(1..) = element.offset() {
                read.add_partition_offset(topic, element.partition(), offset)?;
            }
        }
        Ok(Self { client, read })
    }

    /// Moves it back by one record.
    pub fn step_back(&self) -> anyhow::Result<()> {
        let elements = self.read.elements();
        let last = elements.first().context("the group has read something")?;
        let Offset::Offset(next) = last.offset() else { bail!("{last:?} is no position") };
        let mut back = TopicPartitionList::new();
        back.add_partition_offset(last.topic(), last.partition(), Offset::Offset(next - 1))?;
        Ok(self.client.commit(&back, CommitMode::Sync)?)
    }

    /// Moves it to where it was.
    pub fn restore(&self) -> anyhow::Result<()> {
        Ok(self.client.commit(&self.read, CommitMode::Sync)?)
    }
}

fn client(kafka: &str, group: &str) -> anyhow::Result<BaseConsumer> {
    let mut config = config(kafka);
    config.set("group.id", group).set("enable.auto.commit", "false");
    // Only what is there is read.
    Ok(config.set("fetch.wait.max.ms", "10").create()?)
}

fn config(kafka: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka);
    config
}

//! Reads `order-status` as a wake-up only: a record's key names an order to which something has happened.
//!
//! It belongs to no group, commits nothing and begins at the end. What it misses, because Kafka is away, the topic is
//! missing or has got more partitions, is found when the watched orders are read again.

use std::{sync::Arc, time::Duration};

use consumer::KafkaArgs;
use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{Consumer as _, ConsumerContext, StreamConsumer},
    error::{KafkaError, KafkaResult},
};
use tokio::time::{sleep, timeout};
use tracing::debug;
use uuid::Uuid;

use super::registry::Registry;
use crate::messages::ORDER_STATUS;

/// How long one answer of the broker may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Pause before it is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the same partitions are read; then it is looked whether there are more.
const LOOK: Duration = Duration::from_secs(300);

type Client = StreamConsumer<Quiet>;

/// Trouble with Kafka makes watching slower and nothing worse, and others report it.
struct Quiet;

/// Wakes orders for ever.
pub async fn tail(kafka: &KafkaArgs, registry: &Registry) {
    loop {
        // It ends where the topic is missing, or when it is time to look whether it has more partitions.
        if let Ok(Err(error)) = timeout(LOOK, follow(kafka, registry)).await {
            debug!(%error, "order-status cannot be read; watched orders are found by looking");
        }
        sleep(PAUSE).await;
    }
}

/// Returns where there is nothing to read.
async fn follow(kafka: &KafkaArgs, registry: &Registry) -> KafkaResult<()> {
    let client: Client = ClientConfig::new()
        .set("bootstrap.servers", &kafka.kafka)
        .set("client.id", "order-watch")
        // librdkafka wants a name before it reads; nobody joins this group, and it has no offsets.
        .set("group.id", format!("{}order-watch", kafka.prefix))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "latest")
        // What the broker waits for when nothing comes; a record ends it.
        .set("fetch.wait.max.ms", "100")
        // Records are looked at and dropped.
        .set("queued.max.messages.kbytes", "4096")
        .set("reconnect.backoff.max.ms", "1000")
        .create_with_context(Quiet)?;
    let (client, topic) = (Arc::new(client), format!("{}{ORDER_STATUS}", kafka.prefix));
    let asked = Arc::clone(&client);
    // Metadata is a blocking call.
    let ends = tokio::task::spawn_blocking(move || ends(&asked, &topic)).await;
    let ends = ends.map_err(|_| KafkaError::Canceled)??;
    if ends.count() == 0 {
        return Ok(());
    }
    client.assign(&ends)?;
    loop {
        match client.recv().await {
            Ok(record) => {
                let key = record.key().and_then(|key| Uuid::try_parse_ascii(key).ok());
                if let Some(order_id) = key {
                    registry.wake(order_id);
                }
            }
            Err(error @ KafkaError::MessageConsumptionFatal(_)) => return Err(error),
            // The client recovers by itself.
            Err(error) => {
                debug!(%error, "kafka client");
                sleep(PAUSE).await;
            }
        }
    }
}

fn ends(client: &Client, topic: &str) -> KafkaResult<TopicPartitionList> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER)?;
    let mut ends = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        ends.add_partition_offset(topic, partition.id(), Offset::End)?;
    }
    Ok(ends)
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(?level, facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Quiet {}

#[cfg(test)]
mod tests {
    use rdkafka::{
        admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
        producer::{FutureProducer, FutureRecord},
    };
    use testkit::{servers, until};

    use super::*;

    #[tokio::test]
    async fn a_record_about_a_watched_order_has_it_read() -> anyhow::Result<()> {
        let kafka =
            KafkaArgs { kafka: servers().await?.kafka.clone(), prefix: format!("tail-{}-", Uuid::now_v7()) };
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &kafka.kafka);
        let topic = format!("{}{ORDER_STATUS}", kafka.prefix);
        let registry = Arc::new(Registry::default());
        let (watched, other) = (Uuid::now_v7(), Uuid::now_v7());
        let _subscription = registry.subscribe(watched);
        assert_eq!(registry.begin().expect("its first read").orders, [watched]);

        let tailing = Arc::clone(&registry);
        // It waits for the topic.
        tokio::spawn(async move { tail(&kafka, &tailing).await });
        let admin: AdminClient<_> = config.create()?;
        let new = NewTopic::new(&topic, 3, TopicReplication::Fixed(1));
        admin.create_topics([&new], &AdminOptions::new()).await?;
        let producer: FutureProducer = config.create()?;
        until("the order is read", Duration::from_secs(30), || async {
            for key in [other.to_string(), watched.to_string(), "no order".to_owned()] {
                let record = FutureRecord::to(&topic).key(&key).payload("");
                producer.send(record, Duration::from_secs(5)).await.map_err(|(error, _)| error)?;
            }
            let batch = registry.begin();
            Ok(batch.map(|batch| assert_eq!(batch.orders, [watched], "and no other")))
        })
        .await?;
        admin.delete_topics(&[&topic], &AdminOptions::new()).await?;
        Ok(())
    }
}

//! How far a group has read, as a moment: for whoever must not take a record that is still unread for one that never came.

use std::{collections::HashMap, time::Duration};

use rdkafka::{
    ClientConfig, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use crate::{Error, KafkaArgs};

/// How often the group's positions are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long one answer of the broker may take.
const ANSWER: Duration = Duration::from_secs(5);

type Partition = (String, i32);

/// A moment such that the group has processed every record that was in these topics then. `None` where it has not within
/// this time; an error where Kafka or PostgreSQL does not answer, or a topic is missing.
///
/// Topics and group are named without prefix. It looks at where the topics end now, and waits until the group has come
/// there, so a group that is kept busy is no reason to wait for ever.
pub async fn read_until(
    pool: &PgPool,
    kafka: &KafkaArgs,
    group: &str,
    topics: &[&str],
    within: Duration,
) -> Result<Option<OffsetDateTime>, Error> {
    let asked_at = OffsetDateTime::now_utc();
    let names: Vec<String> = topics.iter().map(|topic| format!("{}{topic}", kafka.prefix)).collect();
    let servers = kafka.kafka.clone();
    // The client asks with blocking calls.
    let consumer = format!("{}{group}", kafka.prefix);
    let asking = consumer.clone();
    let ends = tokio::task::spawn_blocking(move || ends(&servers, &asking, &names)).await;
    let ends = ends.map_err(|_| KafkaError::Canceled)??;
    let give_up = Instant::now() + within;
    loop {
        let positions: Vec<(String, i32, Option<i64>)> =
            sqlx::query_as("select topic, partition, next_offset from inbox.fence where consumer = $1")
                .bind(&consumer)
                .fetch_all(pool)
                .await?;
        let positions: HashMap<Partition, Option<i64>> =
            positions.into_iter().map(|(topic, partition, next)| ((topic, partition), next)).collect();
        let is_read = |(partition, end): (&Partition, &End)| {
            // PostgreSQL knows best; where an operator has accepted whatever comes, only Kafka knows.
            let next = positions.get(partition).and_then(|next| next.or(end.committed));
            // Nothing was read of a partition that has never had a record, or has none any more.
            end.low == end.high || next.is_some_and(|next| next >= end.high)
        };
        if ends.iter().all(is_read) {
            return Ok(Some(asked_at));
        }
        if Instant::now() > give_up {
            return Ok(None);
        }
        sleep(LOOK).await;
    }
}

/// Where a partition begins and ends, and what the group has committed of it.
struct End {
    low: i64,
    high: i64,
    committed: Option<i64>,
}

/// Of every partition of these topics.
fn ends(servers: &str, group: &str, topics: &[String]) -> Result<HashMap<Partition, End>, KafkaError> {
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", servers).set("group.id", group).create()?;
    let mut ends = HashMap::new();
    for topic in topics {
        let metadata = client.fetch_metadata(Some(topic), ANSWER)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.filter(|found| found.error().is_none()).map(|found| found.partitions());
        // A topic that is missing, or may not be seen, has not been read.
        let Some(partitions) = partitions.filter(|partitions| !partitions.is_empty()) else {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition));
        };
        let mut asked = TopicPartitionList::new();
        for partition in partitions {
            asked.add_partition(topic, partition.id());
        }
        let committed = client.committed_offsets(asked, ANSWER)?;
        for partition in partitions {
            let (low, high) = client.fetch_watermarks(topic, partition.id(), ANSWER)?;
            let committed =
                committed.find_partition(topic, partition.id()).and_then(|of| of.offset().to_raw());
            // Negative where nothing was committed.
            let committed = committed.filter(|committed| *committed >= 0);
            ends.insert((topic.clone(), partition.id()), End { low, high, committed });
        }
    }
    Ok(ends)
}

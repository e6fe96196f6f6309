//! How far a group has read, as a moment: for whoever must not take a record that is still unread for one that never came.

use std::{collections::HashMap, time::Duration};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use crate::{Error, KafkaArgs};

/// How often the group's positions are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long one answer of the broker may take.
const ANSWER: Duration = Duration::from_secs(5);

type Partition = (String, i32);

/// A moment such that the group has processed every record that was in these topics then. `None` where it has not within
/// this time; an error where Kafka or PostgreSQL does not answer.
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
    let ends = tokio::task::spawn_blocking(move || ends(&servers, &names)).await;
    let ends = ends.map_err(|_| KafkaError::Canceled)??;
    let consumer = format!("{}{group}", kafka.prefix);
    let give_up = Instant::now() + within;
    loop {
        let positions: Vec<(String, i32, i64)> = sqlx::query_as(
            "select topic, partition, next_offset from inbox.fence where consumer = $1 and next_offset is not null",
        )
        .bind(&consumer)
        .fetch_all(pool)
        .await?;
        let positions: HashMap<Partition, i64> =
            positions.into_iter().map(|(topic, partition, next)| ((topic, partition), next)).collect();
        let is_read = |(partition, (low, high)): (&Partition, &(i64, i64))| {
            // Nothing was read of a partition that has never had a record, or has none any more.
            low == high || positions.get(partition).is_some_and(|next| next >= high)
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

/// Where each partition begins and ends.
fn ends(servers: &str, topics: &[String]) -> Result<HashMap<Partition, (i64, i64)>, KafkaError> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", servers).create()?;
    let mut ends = HashMap::new();
    for topic in topics {
        let metadata = client.fetch_metadata(Some(topic), ANSWER)?;
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            let watermarks = client.fetch_watermarks(topic, partition.id(), ANSWER)?;
            ends.insert((topic.clone(), partition.id()), watermarks);
        }
    }
    Ok(ends)
}

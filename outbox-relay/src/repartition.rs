//! `outbox-relay repartition`: an operator lets a topic go on whose partitions have changed.
//!
//! Keys move to other partitions. Their order survives only if everything that was published before has been consumed,
//! so that is proved first: each group's committed offset is at the end of every partition.

use std::{io::Write, time::Duration};

use anyhow::{Context as _, ensure};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::{config::Config, session::Session};

const WITHIN: Duration = Duration::from_secs(10);

/// Accepts the topic's present count of partitions in every outbox where the topic waits. `false` when it waits in none.
///
/// # Errors
/// When a group has not read everything, or a server does not answer.
pub async fn repartition(
    config: &Config,
    topic: &str,
    groups: &[String],
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let asked = (config.clone(), topic.to_owned(), groups.to_vec());
    let count = tokio::task::spawn_blocking(move || drained(&asked.0, &asked.1, &asked.2)).await??;
    let mut changed = false;
    for source in config.sources()? {
        let name = &source.name;
        let mut connection =
            Session::open(&source).await.with_context(|| format!("outbox {name}"))?.connection;
        let done = sqlx::query(include_str!("sql/repartition.sql"))
            .bind(topic)
            .bind(count)
            .execute(&mut connection)
            .await?;
        if done.rows_affected() > 0 {
            changed = true;
            writeln!(out, "{name}: {topic} goes on with {count} partitions")?;
        }
    }
    if !changed {
        writeln!(out, "{topic} waits in no outbox; `outbox-relay status` says what does")?;
    }
    Ok(changed)
}

/// How many partitions the topic has, once every group has read all of them.
fn drained(config: &Config, topic: &str, groups: &[String]) -> anyhow::Result<i32> {
    let topic = format!("{}{topic}", config.prefix);
    let mut count = 0;
    for group in groups {
        let group = format!("{}{group}", config.prefix);
        let client: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", &config.kafka).set("group.id", &group).create()?;
        let metadata = client.fetch_metadata(Some(&topic), WITHIN).context("Kafka does not answer")?;
        let found = metadata.topics().iter().find(|found| found.name() == topic).context("no such topic")?;
        count = i32::try_from(found.partitions().len())?;
        let mut list = TopicPartitionList::new();
        for partition in 0..count {
            list.add_partition(&topic, partition);
        }
        let committed = client.committed_offsets(list, WITHIN).context("read the group's offsets")?;
        for partition in 0..count {
            let (low, end) = client.fetch_watermarks(&topic, partition, WITHIN)?;
            let element = committed.find_partition(&topic, partition).context("no answer for a partition")?;
            let read = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => low,
            };
            ensure!(
                read >= end,
                "group {group} has {} records of {topic}[{partition}] still to read: wait until it has read them",
                end - read
            );
        }
    }
    Ok(count)
}

//! The topics of one test.

use std::time::Duration;

use anyhow::Context as _;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};

/// The topics of the platform.
pub const TOPICS: [&str; 5] =
    ["order-created", "payment-requests", "payment-results", "order-status", "notification-events"];

/// Where consumers copy what they have parked. The outboxes' own are not made: the relay does without.
const DEAD_LETTERS: [&str; 3] =
    ["payment-requests.billing.dlq", "payment-results.order.dlq", "notification-events.notification.dlq"];

const PARTITIONS: i32 = 12;
const WITHIN: Duration = Duration::from_secs(20);

/// Creates the platform's topics under a prefix.
pub(crate) async fn create(kafka: &str, prefix: &str) -> anyhow::Result<()> {
    let names = names(prefix);
    let topics: Vec<_> =
        names.iter().map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1))).collect();
    for result in admin(kafka)?.create_topics(&topics, &options()).await? {
        result.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    Ok(())
}

/// Deletes them again.
pub(crate) async fn delete(kafka: &str, prefix: &str) -> anyhow::Result<()> {
    let names = names(prefix);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    admin(kafka)?.delete_topics(&names, &options()).await?;
    Ok(())
}

fn names(prefix: &str) -> Vec<String> {
    TOPICS.iter().chain(&DEAD_LETTERS).map(|topic| format!("{prefix}{topic}")).collect()
}

fn admin(kafka: &str) -> anyhow::Result<AdminClient<DefaultClientContext>> {
    ClientConfig::new().set("bootstrap.servers", kafka).create().context("kafka admin client")
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(WITHIN)).request_timeout(Some(WITHIN))
}

//! The topics of one test.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    metadata::MetadataTopic,
};

/// The topics of the platform.
pub const TOPICS: [&str; 8] = [
    "order-created",
    "stock-requests",
    "stock-results",
    "payment-requests",
    "payment-results",
    "order-status",
    "notification-events",
    "product-events",
];

/// Where consumers copy what they have parked. The outboxes' own are not made: the relay does without.
const DEAD_LETTERS: [&str; 6] = [
    "stock-requests.inventory.dlq",
    "stock-results.order.dlq",
    "payment-requests.billing.dlq",
    "payment-results.order.dlq",
    "notification-events.notification.dlq",
    "product-events.order.dlq",
];

const PARTITIONS: i32 = 12;
const WITHIN: Duration = Duration::from_secs(20);

/// Creates the platform's topics under a prefix, and waits until the broker knows them.
pub(crate) async fn create(kafka: &str, prefix: &str) -> anyhow::Result<()> {
    let names = names(prefix);
    let topics: Vec<_> = names
        .iter()
        .map(|name| {
            // Copies are few, and a partition costs a test its time.
            let partitions = if name.ends_with(".dlq") { 1 } else { PARTITIONS };
            NewTopic::new(name, partitions, TopicReplication::Fixed(1))
        })
        .collect();
    let admin = admin(kafka)?;
    for result in admin.create_topics(&topics, &options()).await? {
        result.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    // It may know them a moment later than the controller that has created them. Metadata is a blocking call.
    tokio::task::spawn_blocking(move || known(&admin, &names)).await?
}

fn known(admin: &AdminClient<DefaultClientContext>, names: &[String]) -> anyhow::Result<()> {
    let deadline = Instant::now() + WITHIN;
    for name in names {
        loop {
            let metadata = admin.inner().fetch_metadata(Some(name), WITHIN)?;
            let is = |topic: &MetadataTopic| topic.name() == name && !topic.partitions().is_empty();
            if metadata.topics().iter().any(is) {
                break;
            }
            anyhow::ensure!(Instant::now() < deadline, "Kafka does not know topic {name}");
            std::thread::sleep(Duration::from_millis(20));
        }
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

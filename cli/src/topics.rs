//! `orderly topics apply`: creates the platform's topics and checks those that exist.
//!
//! A topic that differs is reported, never changed: another partition count moves keys, another retention loses
//! records.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, ConfigResourceResult, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    types::RDKafkaErrorCode,
};

use crate::{
    output,
    platform::{DataDir, Platform},
};

/// The topics of the platform, without prefix.
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

/// Topics and the consumer group that reads each, and so may park records of it; without prefix.
pub const READ: [(&str, &str); 6] = [
    ("stock-requests", "inventory"),
    ("stock-results", "order"),
    ("payment-requests", "billing"),
    ("payment-results", "order"),
    ("notification-events", "notification"),
    ("product-events", "order"),
];

type Settings = &'static [(&'static str, &'static str)];

/// What a topic is created with: a week of records, removed by age and never compacted.
const SETTINGS: Settings = &[("cleanup.policy", "delete"), ("retention.ms", "604800000")];

/// The same for copies of what failed: a month, and room for what is said about the failure beside the largest record
/// that Kafka takes by default (1048588 bytes and 64 KiB).
const COPY_SETTINGS: Settings =
    &[("cleanup.policy", "delete"), ("retention.ms", "2592000000"), ("max.message.bytes", "1114124")];

/// How long the brokers may take for one request.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a broker is asked for a topic that it does not know yet.
const METADATA_EVERY: Duration = Duration::from_millis(50);

/// Arguments of `orderly topics`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create the topics that are missing and check the others
    Apply(Apply),
}

#[derive(Debug, clap::Args)]
struct Apply {
    #[command(flatten)]
    data_dir: DataDir,
    /// Kafka bootstrap server [default: the running platform's]
    #[arg(long, env = "ORDERLY_KAFKA", value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Put before every topic name [default: the running platform's]
    #[arg(long, env = "ORDERLY_PREFIX")]
    prefix: Option<String>,
    #[command(flatten)]
    shape: Shape,
}

/// How a topic is laid out.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Shape {
    /// Partitions of each topic; keys move when it changes, so it is fixed at creation
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub partitions: i32,
    /// Copies of each partition
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=15))]
    pub replication: i32,
}

/// Runs `orderly topics`.
///
/// # Errors
/// When Kafka does not answer or a topic differs from what the platform needs.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Apply(args) = args.command;
    let (kafka, prefix) = match (args.kafka, args.prefix) {
        (Some(kafka), prefix) => (kafka, prefix.unwrap_or_default()),
        (None, prefix) => {
            let platform = Platform::load(&args.data_dir)?;
            (platform.kafka().to_owned(), prefix.unwrap_or_else(|| platform.prefix().to_owned()))
        }
    };
    let created = apply(&kafka, &prefix, args.shape).await?;
    let all = wanted(&prefix).len();
    let existed = all - created.len();
    for topic in created {
        output::line(format!("created {topic}"));
    }
    output::line(format!("{existed} of {all} topics existed, as they should be"));
    Ok(ExitCode::SUCCESS)
}

/// Creates the missing topics, checks all, and returns the names of those created.
///
/// # Errors
/// When Kafka does not answer or a topic differs from what the platform needs.
pub async fn apply(kafka: &str, prefix: &str, shape: Shape) -> anyhow::Result<Vec<String>> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .create()
        .context("could not make a Kafka client")?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
    let topics = wanted(prefix);
    let created = create(&admin, &options, &topics, shape)
        .await
        .with_context(|| format!("could not create topics at {kafka}"))?;
    let differences = differences(admin, &options, topics, shape).await?;
    ensure!(
        differences.is_empty(),
        "topics differ from what the platform needs; change them with Kafka's own tools, or use another --prefix: {}",
        differences.join("; ")
    );
    Ok(created)
}

/// Every topic of the platform, without prefix: those that are read, and those of copies of what failed.
pub fn names() -> impl Iterator<Item = String> {
    wanted("").into_iter().map(|(name, _)| name)
}

/// Every topic with its settings. A record and its copy are in partitions of the same number, so all have as many.
fn wanted(prefix: &str) -> Vec<(String, Settings)> {
    let own = TOPICS.map(|topic| (format!("{prefix}{topic}"), SETTINGS));
    let of_groups = READ.map(|(topic, group)| (format!("{prefix}{topic}.{group}.dlq"), COPY_SETTINGS));
    let of_outboxes = TOPICS.map(|topic| (format!("{prefix}{topic}.outbox.dlq"), COPY_SETTINGS));
    own.into_iter().chain(of_groups).chain(of_outboxes).collect()
}

async fn create(
    admin: &AdminClient<DefaultClientContext>,
    options: &AdminOptions,
    wanted: &[(String, Settings)],
    shape: Shape,
) -> anyhow::Result<Vec<String>> {
    let topics: Vec<NewTopic<'_>> = wanted
        .iter()
        .map(|(name, settings)| {
            let topic = NewTopic::new(name, shape.partitions, TopicReplication::Fixed(shape.replication));
            settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
        })
        .collect();
    let mut created = Vec::new();
    for result in admin.create_topics(&topics, options).await? {
        match result {
            Ok(name) => created.push(name),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => bail!("{name}: {code}"),
        }
    }
    Ok(created)
}

async fn differences(
    admin: AdminClient<DefaultClientContext>,
    options: &AdminOptions,
    wanted: Vec<(String, Settings)>,
    shape: Shape,
) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let settings = settings(&admin, options, &wanted).await?;
    for ((name, wanted), resource) in wanted.iter().zip(settings) {
        let resource = resource.map_err(|code| anyhow::anyhow!("{name}: {code}"))?;
        for (key, wanted) in *wanted {
            let value = resource.get(key).and_then(|entry| entry.value.as_deref()).unwrap_or("unknown");
            if value != *wanted {
                found.push(format!("{name} has {key}={value}, wants {wanted}"));
            }
        }
    }
    // Metadata is a blocking call of librdkafka.
    let counts = tokio::task::spawn_blocking(move || -> anyhow::Result<Vec<(String, usize)>> {
        let mut counts = Vec::new();
        for (name, _) in wanted {
            let count = partitions(&admin, &name)?;
            counts.push((name, count));
        }
        Ok(counts)
    });
    for (name, count) in counts.await?? {
        if i32::try_from(count) != Ok(shape.partitions) {
            found.push(format!("{name} has {count} partitions, wants {}", shape.partitions));
        }
    }
    Ok(found)
}

/// The settings of every topic. A broker may know a topic a moment later than the controller that created it, and says
/// nothing of its settings until then.
async fn settings(
    admin: &AdminClient<DefaultClientContext>,
    options: &AdminOptions,
    wanted: &[(String, Settings)],
) -> anyhow::Result<Vec<ConfigResourceResult>> {
    let deadline = Instant::now() + PATIENCE;
    let resources: Vec<ResourceSpecifier<'_>> =
        wanted.iter().map(|(name, _)| ResourceSpecifier::Topic(name)).collect();
    loop {
        let settings = admin.describe_configs(&resources, options).await?;
        let unknown = settings.iter().any(|resource| match resource {
            Ok(resource) => resource.entries.is_empty(),
            Err(code) => *code == RDKafkaErrorCode::UnknownTopicOrPartition,
        });
        if !unknown || Instant::now() >= deadline {
            return Ok(settings);
        }
        tokio::time::sleep(METADATA_EVERY).await;
    }
}

/// The same is true of its partitions.
fn partitions(admin: &AdminClient<DefaultClientContext>, name: &str) -> anyhow::Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let metadata = admin.inner().fetch_metadata(Some(name), PATIENCE)?;
        let count =
            metadata.topics().iter().find(|topic| topic.name() == name).map(|topic| topic.partitions().len());
        match count {
            None | Some(0) if Instant::now() < deadline => std::thread::sleep(METADATA_EVERY),
            count => return Ok(count.unwrap_or(0)),
        }
    }
}

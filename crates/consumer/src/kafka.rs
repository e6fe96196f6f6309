//! The Kafka client of a consumer: its flags, its settings, and what a rebalance does.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use rdkafka::{
    ClientConfig, ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance, StreamConsumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use telemetry::Gauge;
use tracing::{debug, info};

use crate::Metrics;

/// Where Kafka is, and how this deployment's names begin.
#[derive(Clone, Debug, clap::Args)]
pub struct KafkaArgs {
    /// Kafka bootstrap servers, comma separated.
    #[arg(long, env = "ORDERLY_KAFKA", default_value = "127.0.0.1:9092")]
    pub kafka: String,
    /// Prefix of every topic and consumer group; empty in production, tests share one broker with it.
    #[arg(long, env = "ORDERLY_PREFIX", default_value = "")]
    pub prefix: String,
}

/// The partitions that this worker owns: what was read under one ownership is worth nothing under the next.
pub(crate) struct Ownership {
    owned: Mutex<Owned>,
    /// How many they are, by topic as Kafka names it.
    shown: Vec<(String, Gauge)>,
}

#[derive(Default)]
struct Owned {
    /// Ownerships so far.
    count: u64,
    /// Another membership shows what it owns.
    is_over: bool,
    partitions: HashMap<(String, i32), Partition>,
}

#[derive(Clone, Copy)]
struct Partition {
    ownership: u64,
    /// The fence's epoch, and how far the partition has been read, once they are known.
    fence: Option<(i64, Option<i64>)>,
    /// Whether the client was set to where the partition has been read to.
    sought: bool,
}

impl Ownership {
    /// Nothing yet.
    pub fn new(metrics: &Metrics, prefix: &str) -> Self {
        let shown = metrics.assigned().map(|(topic, gauge)| (format!("{prefix}{topic}"), gauge));
        Self { owned: Mutex::default(), shown: shown.collect() }
    }

    /// The group is left, or will notice it: whatever Kafka still says, nothing is owned.
    pub fn finish(&self) {
        let mut owned = self.lock();
        owned.is_over = true;
        self.shown.iter().for_each(|(_, gauge)| gauge.set_count(0));
    }

    fn show(&self, owned: &Owned) {
        if !owned.is_over {
            for (topic, gauge) in &self.shown {
                gauge.set_count(owned.partitions.keys().filter(|(of, _)| of == topic).count());
            }
        }
    }

    /// The fence's epoch, and how far the partition has been read.
    pub fn epoch(&self, partition: &(String, i32)) -> Option<(i64, Option<i64>)> {
        self.lock().partitions.get(partition).and_then(|owned| owned.fence)
    }

    pub fn set_epoch(&self, partition: &(String, i32), fence: (i64, Option<i64>)) {
        self.with(partition, |owned| owned.fence = Some(fence));
    }

    /// It is to be read from the database anew.
    pub fn forget_epoch(&self, partition: &(String, i32)) {
        self.with(partition, |owned| owned.fence = None);
    }

    /// Everything before this offset has taken effect.
    pub fn reach(&self, partition: &(String, i32), next: i64) {
        self.with(partition, |owned| {
            if let Some((_, reached)) = &mut owned.fence {
                *reached = (*reached).max(Some(next));
            }
        });
    }

    /// Whether the client has not been set to an offset under this ownership before.
    pub fn seeks(&self, partition: &(String, i32)) -> bool {
        self.with(partition, |owned| !std::mem::replace(&mut owned.sought, true)).unwrap_or(false)
    }

    fn with<T>(&self, partition: &(String, i32), change: impl FnOnce(&mut Partition) -> T) -> Option<T> {
        self.lock().partitions.get_mut(partition).map(change)
    }

    /// The number of the ownership under which a record of this partition is read now; `None` when it is not owned.
    pub fn current(&self, partition: &(String, i32)) -> Option<u64> {
        self.lock().partitions.get(partition).map(|owned| owned.ownership)
    }

    fn begin(&self, partitions: &TopicPartitionList) {
        let mut owned = self.lock();
        for element in partitions.elements() {
            owned.count += 1;
            let partition = Partition { ownership: owned.count, fence: None, sought: false };
            owned.partitions.insert((element.topic().to_owned(), element.partition()), partition);
        }
        self.show(&owned);
    }

    fn end(&self, partitions: &TopicPartitionList) {
        let mut owned = self.lock();
        for element in partitions.elements() {
            owned.partitions.remove(&(element.topic().to_owned(), element.partition()));
        }
        self.show(&owned);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Owned> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Ownership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(?level, facility, message, "librdkafka");
    }

    // Connection trouble is reported once, by the loop that sees its effect.
    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Ownership {
    fn pre_rebalance(&self, client: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                self.begin(partitions);
                info!(partitions = partitions.count(), "partitions assigned");
            }
            Rebalance::Revoke(partitions) => {
                self.end(partitions);
                // librdkafka remembers a pause for longer than it owns the partition.
                if let Err(error) = client.resume(partitions) {
                    debug!(%error, "revoked partitions were not resumed");
                }
                info!(partitions = partitions.count(), "partitions revoked");
            }
            Rebalance::Error(error) => debug!(%error, "rebalance failed"),
        }
    }
}

pub(crate) type Client = StreamConsumer<Ownership>;

/// How the members of a group agree on who reads what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// KIP-848: the broker assigns, incrementally; timeouts are the broker's settings.
    Consumer,
    /// The members assign, incrementally, for brokers before 4.0.
    Classic,
}

/// A member of the group that commits nothing by itself.
pub(crate) fn client(
    kafka: &KafkaArgs,
    group: &str,
    protocol: Protocol,
    ownership: Ownership,
) -> Result<Client, KafkaError> {
    let mut config = ClientConfig::new();
    match protocol {
        Protocol::Consumer => config.set("group.protocol", "consumer"),
        Protocol::Classic => config
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "500"),
    };
    config
        .set("bootstrap.servers", &kafka.kafka)
        .set("client.id", group)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // For the group's first start only; what existed before it is not skipped.
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        // Bounds of what is fetched ahead of the handlers.
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.wait.max.ms", "100")
        // Both recover by themselves; a restarted broker should be found within a second.
        .set("reconnect.backoff.max.ms", "1000")
        .set("topic.metadata.refresh.interval.ms", "10000")
        .create_with_context(ownership)
}

/// Whether only a new client can help.
pub(crate) fn is_lost(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumptionFatal(_))
}

/// Whether the broker does not speak [`Protocol::Consumer`].
pub(crate) fn is_unsupported(error: &KafkaError) -> bool {
    let unsupported = [RDKafkaErrorCode::UnsupportedVersion, RDKafkaErrorCode::UnsupportedFeature];
    error.rdkafka_error_code().is_some_and(|code| unsupported.contains(&code))
}

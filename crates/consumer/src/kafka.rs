//! The Kafka client of a consumer: its flags, its settings, and what a rebalance does.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use rdkafka::{
    ClientConfig, ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext, Rebalance, StreamConsumer},
    error::KafkaError,
};
use tracing::{debug, info};

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

/// The partitions that this worker owns, each with its fence epoch once it has one.
#[derive(Default)]
pub(crate) struct Ownership {
    epochs: Mutex<HashMap<(String, i32), i64>>,
}

impl Ownership {
    pub fn epoch(&self, partition: &(String, i32)) -> Option<i64> {
        self.lock().get(partition).copied()
    }

    pub fn set(&self, partition: (String, i32), epoch: i64) {
        self.lock().insert(partition, epoch);
    }

    /// A partition that goes and comes back is a new ownership, with a new epoch.
    fn forget(&self, partitions: &TopicPartitionList) {
        let mut epochs = self.lock();
        for element in partitions.elements() {
            epochs.remove(&(element.topic().to_owned(), element.partition()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, i32), i64>> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                self.forget(partitions);
                info!(partitions = partitions.count(), "partitions assigned");
            }
            Rebalance::Revoke(partitions) => {
                self.forget(partitions);
                info!(partitions = partitions.count(), "partitions revoked");
            }
            Rebalance::Error(error) => debug!(%error, "rebalance failed"),
        }
    }
}

pub(crate) type Client = StreamConsumer<Ownership>;

/// A member of the group that commits nothing by itself.
pub(crate) fn client(kafka: &KafkaArgs, group: &str) -> Result<Client, KafkaError> {
    ClientConfig::new()
        .set("bootstrap.servers", &kafka.kafka)
        .set("client.id", group)
        .set("group.id", group)
        // KIP-848: the broker assigns, incrementally; timeouts are the broker's settings.
        .set("group.protocol", "consumer")
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
        .create_with_context(Ownership::default())
}

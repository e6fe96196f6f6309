//! What a consumer counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::Kind;

/// Labels by logical topic.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct TopicLabels {
    topic: String,
}

/// Labels of what became a dead letter.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct DeadLetterLabels {
    topic: String,
    kind: &'static str,
}

/// The metrics of one consumer, cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    records: Family<TopicLabels, Counter>,
    repeats: Family<TopicLabels, Counter>,
    dead_letters: Family<DeadLetterLabels, Counter>,
    held: Family<TopicLabels, Counter>,
    replayed: Family<TopicLabels, Counter>,
    pub(crate) batch_seconds: Histogram,
    pub(crate) failures: Counter,
    pub(crate) blocked: Gauge,
}

impl Metrics {
    /// Registers them; once per process.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            records: Family::default(),
            repeats: Family::default(),
            dead_letters: Family::default(),
            held: Family::default(),
            replayed: Family::default(),
            // 1 ms to about 16 s.
            batch_seconds: Histogram::new((0..15).map(|power| 0.001 * f64::from(1 << power))),
            failures: Counter::default(),
            blocked: Gauge::default(),
        };
        registry.register("consumer_records", "Records that took effect", metrics.records.clone());
        registry.register(
            "consumer_repeats",
            "Records dropped as repeats by the inbox",
            metrics.repeats.clone(),
        );
        registry.register(
            "consumer_dead_letters",
            "Records that failed and became dead letters",
            metrics.dead_letters.clone(),
        );
        registry.register(
            "consumer_held_records",
            "Records that were put behind a dead letter of their key",
            metrics.held.clone(),
        );
        registry.register(
            "consumer_replayed_records",
            "Dead letters, and records behind them, that took effect",
            metrics.replayed.clone(),
        );
        registry.register(
            "consumer_batch_seconds",
            "Time of a batch, from its first record to the committed transaction",
            metrics.batch_seconds.clone(),
        );
        registry.register(
            "consumer_batch_failures",
            "Batches rolled back to be run again",
            metrics.failures.clone(),
        );
        registry.register(
            "consumer_blocked_partitions",
            "Partitions that wait for a record that can be neither processed nor parked",
            metrics.blocked.clone(),
        );
        metrics
    }

    pub(crate) fn took_effect(&self, topic: &str) {
        self.records.get_or_create(&labels(topic)).inc();
    }

    pub(crate) fn repeated(&self, topic: &str) {
        self.repeats.get_or_create(&labels(topic)).inc();
    }

    pub(crate) fn replayed(&self, topic: &str) {
        self.replayed.get_or_create(&labels(topic)).inc();
    }

    /// With the kind of what failed, without one what waits behind it.
    pub(crate) fn parked(&self, topic: &str, kind: Option<Kind>) {
        match kind {
            Some(kind) => {
                let labels = DeadLetterLabels { topic: topic.to_owned(), kind: kind.as_str() };
                self.dead_letters.get_or_create(&labels).inc();
            }
            None => {
                self.held.get_or_create(&labels(topic)).inc();
            }
        }
    }
}

fn labels(topic: &str) -> TopicLabels {
    TopicLabels { topic: topic.to_owned() }
}

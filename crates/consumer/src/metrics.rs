//! What a consumer counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Labels by logical topic.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct TopicLabels {
    topic: String,
}

/// The metrics of one consumer, cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    records: Family<TopicLabels, Counter>,
    repeats: Family<TopicLabels, Counter>,
    pub(crate) batch_seconds: Histogram,
    pub(crate) failures: Counter,
    pub(crate) stopped: Gauge,
}

impl Metrics {
    /// Registers them; once per process.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            records: Family::default(),
            repeats: Family::default(),
            // 1 ms to about 16 s.
            batch_seconds: Histogram::new((0..15).map(|power| 0.001 * f64::from(1 << power))),
            failures: Counter::default(),
            stopped: Gauge::default(),
        };
        registry.register("consumer_records", "Records that took effect", metrics.records.clone());
        registry.register(
            "consumer_repeats",
            "Records dropped as repeats by the inbox",
            metrics.repeats.clone(),
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
            "consumer_stopped",
            "1 while a record that cannot be processed has stopped this consumer",
            metrics.stopped.clone(),
        );
        metrics
    }

    pub(crate) fn took_effect(&self, topic: &str) {
        self.records.get_or_create(&TopicLabels { topic: topic.to_owned() }).inc();
    }

    pub(crate) fn repeated(&self, topic: &str) {
        self.repeats.get_or_create(&TopicLabels { topic: topic.to_owned() }).inc();
    }
}

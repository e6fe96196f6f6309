//! What the relay tells Prometheus.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::sync::atomic::AtomicU64;

/// Labels of a gauge of one outbox.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutboxLabels {
    outbox: String,
}

/// Labels of what was published.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TopicLabels {
    outbox: String,
    topic: String,
}

/// The metrics of every outbox.
#[derive(Clone, Debug)]
pub struct Metrics {
    published: Family<TopicLabels, Counter>,
    oldest: Family<OutboxLabels, Gauge<f64, AtomicU64>>,
    unpublished: Family<OutboxLabels, Gauge>,
    seconds: Family<OutboxLabels, Histogram>,
    epoch: Family<OutboxLabels, Gauge>,
    up: Family<OutboxLabels, Gauge>,
    ring_used: Family<OutboxLabels, Gauge>,
    ring_overdue: Family<OutboxLabels, Gauge>,
    held: Family<OutboxLabels, Gauge>,
    overtaken: Family<OutboxLabels, Counter>,
    lanes: Family<OutboxLabels, Gauge>,
}

/// The metrics of one outbox.
#[derive(Clone, Debug)]
pub struct OutboxMetrics {
    family: Metrics,
    outbox: String,
    /// Age in seconds of the oldest event that is not published; 0 when there is none.
    pub oldest: Gauge<f64, AtomicU64>,
    /// Events that are not published, counted every few seconds while there are any.
    pub unpublished: Gauge,
    /// Seconds from the append to the broker's acknowledgement.
    pub seconds: Histogram,
    /// The epoch of the lease while this process holds it, else 0.
    pub epoch: Gauge,
    /// 1 while this process publishes the outbox or stands by for it.
    pub up: Gauge,
    /// Daily leaves with rows, of eight.
    pub ring_used: Gauge,
    /// Leaves that are due to be truncated and could not be.
    pub ring_overdue: Gauge,
    /// Keys whose events are parked behind a refused one.
    pub held: Gauge,
    /// Keys of which Kafka took a later event before an earlier one.
    pub overtaken: Counter,
    /// Topics that cannot be published to.
    pub lanes: Gauge,
}

impl Metrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let seconds = || {
            Histogram::new([
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0,
            ])
        };
        let metrics = Self {
            published: Family::default(),
            oldest: Family::default(),
            unpublished: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            epoch: Family::default(),
            up: Family::default(),
            ring_used: Family::default(),
            ring_overdue: Family::default(),
            held: Family::default(),
            overtaken: Family::default(),
            lanes: Family::default(),
        };
        registry.register("outbox_published", "Events acknowledged by Kafka", metrics.published.clone());
        registry.register(
            "outbox_oldest_unpublished_seconds",
            "Age of the oldest event that is not published",
            metrics.oldest.clone(),
        );
        registry.register(
            "outbox_unpublished_rows",
            "Events that are not published, as last counted, at most 100000",
            metrics.unpublished.clone(),
        );
        registry.register(
            "outbox_publish_seconds",
            "Time from an event's append to Kafka's acknowledgement",
            metrics.seconds.clone(),
        );
        registry.register(
            "outbox_lease_epoch",
            "Epoch of the lease held by this relay, 0 without it",
            metrics.epoch.clone(),
        );
        registry.register(
            "outbox_up",
            "Whether this relay publishes the outbox or stands by for it",
            metrics.up.clone(),
        );
        registry.register(
            "outbox_ring_leaves_used",
            "Daily leaves with rows, of eight; at eight, new events lie among those of last week",
            metrics.ring_used.clone(),
        );
        registry.register(
            "outbox_ring_leaves_overdue",
            "Daily leaves that are due to be truncated and were not: unpublished events, or somebody holds a lock",
            metrics.ring_overdue.clone(),
        );
        registry.register(
            "outbox_keys_held",
            "Keys whose events are parked behind one that Kafka refused, until an operator releases them",
            metrics.held.clone(),
        );
        registry.register(
            "outbox_overtaken_keys",
            "Keys of which Kafka took a later event before an earlier one, see `outbox-relay status`",
            metrics.overtaken.clone(),
        );
        registry.register(
            "outbox_lanes",
            "Topics that cannot be published to while all others flow",
            metrics.lanes.clone(),
        );
        metrics
    }

    /// The metrics of an outbox, all there from the start.
    pub fn outbox(&self, name: &str) -> OutboxMetrics {
        let labels = OutboxLabels { outbox: name.to_owned() };
        OutboxMetrics {
            outbox: name.to_owned(),
            oldest: self.oldest.get_or_create_owned(&labels),
            unpublished: self.unpublished.get_or_create_owned(&labels),
            seconds: self.seconds.get_or_create_owned(&labels),
            epoch: self.epoch.get_or_create_owned(&labels),
            up: self.up.get_or_create_owned(&labels),
            ring_used: self.ring_used.get_or_create_owned(&labels),
            ring_overdue: self.ring_overdue.get_or_create_owned(&labels),
            held: self.held.get_or_create_owned(&labels),
            overtaken: self.overtaken.get_or_create_owned(&labels),
            lanes: self.lanes.get_or_create_owned(&labels),
            family: self.clone(),
        }
    }
}

impl OutboxMetrics {
    /// Counts events published to a topic, named with its prefix.
    pub fn published(&self, topic: &str) -> Counter {
        let labels = TopicLabels { outbox: self.outbox.clone(), topic: topic.to_owned() };
        self.family.published.get_or_create_owned(&labels)
    }
}

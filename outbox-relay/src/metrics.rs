//! What the relay tells Prometheus. Names and meanings are in [`telemetry::catalogue::outbox`].

use telemetry::{Counter, Counters, Gauge, Gauges, Histogram, Histograms, catalogue::outbox::*};

/// The metrics of every outbox.
#[derive(Clone, Debug)]
pub struct Metrics {
    up: Gauges<1>,
    epoch: Gauges<1>,
    published: Counters<2>,
    seconds: Histograms<1>,
    oldest: Gauges<1>,
    unpublished: Gauges<1>,
    held: Gauges<1>,
    overtaken: Counters<1>,
    lanes: Gauges<1>,
    ring_used: Gauges<1>,
    ring_overdue: Gauges<1>,
}

/// The metrics of one outbox.
#[derive(Clone, Debug)]
pub struct OutboxMetrics {
    outbox: String,
    published: Counters<2>,
    /// 1 while this process publishes the outbox or stands by for it.
    pub up: Gauge,
    /// The epoch of the lease while this process holds it, else 0.
    pub epoch: Gauge,
    /// Seconds from the append to the broker's acknowledgement.
    pub seconds: Histogram,
    /// Age in seconds of the oldest event that is not published; 0 when there is none.
    pub oldest: Gauge,
    /// Events that are not published, counted every few seconds while there are any.
    pub unpublished: Gauge,
    /// Keys whose events are parked behind a refused one.
    pub held: Gauge,
    /// Keys of which Kafka took a later event before an earlier one.
    pub overtaken: Counter,
    /// Topics that cannot be published to.
    pub lanes: Gauge,
    /// Daily leaves with rows, of eight.
    pub ring_used: Gauge,
    /// Leaves that are due to be truncated and could not be.
    pub ring_overdue: Gauge,
}

impl Metrics {
    /// Registers the metrics.
    pub fn register(metrics: &telemetry::Metrics) -> Self {
        Self {
            up: metrics.gauges(&UP),
            epoch: metrics.gauges(&LEASE_EPOCH),
            published: metrics.counters(&PUBLISHED),
            seconds: metrics.histograms(&PUBLISH_DURATION),
            oldest: metrics.gauges(&OLDEST_UNPUBLISHED),
            unpublished: metrics.gauges(&UNPUBLISHED),
            held: metrics.gauges(&HELD_KEYS),
            overtaken: metrics.counters(&OVERTAKEN_KEYS),
            lanes: metrics.gauges(&LANES),
            ring_used: metrics.gauges(&RING_USED),
            ring_overdue: metrics.gauges(&RING_OVERDUE),
        }
    }

    /// The metrics of an outbox, all there from the start.
    pub fn outbox(&self, name: &str) -> OutboxMetrics {
        OutboxMetrics {
            outbox: name.to_owned(),
            published: self.published.clone(),
            up: self.up.with([name]),
            epoch: self.epoch.with([name]),
            seconds: self.seconds.with([name]),
            oldest: self.oldest.with([name]),
            unpublished: self.unpublished.with([name]),
            held: self.held.with([name]),
            overtaken: self.overtaken.with([name]),
            lanes: self.lanes.with([name]),
            ring_used: self.ring_used.with([name]),
            ring_overdue: self.ring_overdue.with([name]),
        }
    }
}

impl OutboxMetrics {
    /// Counts events published to a topic, named with its prefix.
    pub fn published(&self, topic: &str) -> Counter {
        self.published.with([&self.outbox, topic])
    }
}

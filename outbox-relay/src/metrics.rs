//! What the relay tells Prometheus. Names and meanings are in [`telemetry::catalogue::outbox`].

use std::time::{SystemTime, UNIX_EPOCH};

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
    in_flight: Gauges<1>,
    oldest_transaction: Gauges<1>,
    refused: Counters<2>,
    held: Gauges<1>,
    overtaken: Counters<1>,
    lanes: Gauges<1>,
    ring_used: Gauges<1>,
    ring_overdue: Gauges<1>,
    sessions_lost: Counters<1>,
}

/// The metrics of one outbox.
#[derive(Clone, Debug)]
pub struct OutboxMetrics {
    outbox: String,
    published: Counters<2>,
    refused: Counters<2>,
    oldest: Gauge,
    /// 1 while this process publishes the outbox or stands by for it.
    pub up: Gauge,
    /// The epoch of the lease while this process holds it, else 0.
    pub epoch: Gauge,
    /// Seconds from the append to the broker's acknowledgement.
    pub seconds: Histogram,
    /// Events that are not published, counted every few seconds while there are any.
    pub unpublished: Gauge,
    /// Events in the producer.
    pub in_flight: Gauge,
    /// Age in seconds of the oldest transaction that has written and is open.
    pub oldest_transaction: Gauge,
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
    /// Sessions that have ended before the relay did.
    pub sessions_lost: Counter,
}

/// The metrics of one topic of an outbox.
#[derive(Clone, Debug)]
pub struct TopicMetrics {
    /// Events that Kafka has acknowledged.
    pub published: Counter,
    /// Events that were refused and parked.
    pub refused: Counter,
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
            in_flight: metrics.gauges(&IN_FLIGHT),
            oldest_transaction: metrics.gauges(&OLDEST_TRANSACTION),
            refused: metrics.counters(&REFUSED),
            held: metrics.gauges(&HELD_KEYS),
            overtaken: metrics.counters(&OVERTAKEN_KEYS),
            lanes: metrics.gauges(&LANES),
            ring_used: metrics.gauges(&RING_USED),
            ring_overdue: metrics.gauges(&RING_OVERDUE),
            sessions_lost: metrics.counters(&SESSIONS_LOST),
        }
    }

    /// The metrics of an outbox, all there from the start but those of its topics.
    pub fn outbox(&self, name: &str) -> OutboxMetrics {
        OutboxMetrics {
            outbox: name.to_owned(),
            published: self.published.clone(),
            refused: self.refused.clone(),
            oldest: self.oldest.with([name]),
            up: self.up.with([name]),
            epoch: self.epoch.with([name]),
            seconds: self.seconds.with([name]),
            unpublished: self.unpublished.with([name]),
            in_flight: self.in_flight.with([name]),
            oldest_transaction: self.oldest_transaction.with([name]),
            held: self.held.with([name]),
            overtaken: self.overtaken.with([name]),
            lanes: self.lanes.with([name]),
            ring_used: self.ring_used.with([name]),
            ring_overdue: self.ring_overdue.with([name]),
            sessions_lost: self.sessions_lost.with([name]),
        }
    }
}

impl OutboxMetrics {
    /// Those of a topic, named without prefix: dashboards are the same for every deployment.
    pub fn topic(&self, logical: &str) -> TopicMetrics {
        TopicMetrics {
            published: self.published.with([&self.outbox, logical]),
            refused: self.refused.with([&self.outbox, logical]),
        }
    }

    /// Shows how long the oldest unpublished event has waited, by the Unix time of its append.
    pub fn waits_since(&self, oldest: Option<f64>) {
        self.oldest.set(oldest.map_or(0.0, age));
    }

    /// Nothing is in the producer any more, and nobody looks at transactions.
    pub fn without_session(&self) {
        for gauge in [&self.up, &self.epoch, &self.in_flight, &self.oldest_transaction] {
            gauge.set(0.0);
        }
    }

    /// How the outbox is, its owner says; what this process knew of it when it was that is of no use any more.
    pub fn without_lease(&self) {
        self.waits_since(None);
        let known = [&self.unpublished, &self.held, &self.lanes, &self.ring_used, &self.ring_overdue];
        known.into_iter().for_each(|gauge| gauge.set(0.0));
    }
}

/// Seconds since a Unix time.
pub fn age(since: f64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
    (now - since).max(0.0)
}

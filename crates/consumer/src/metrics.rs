//! What a consumer counts. Names and meanings are in [`telemetry::catalogue::consumer`].

use telemetry::{Counter, Counters, Gauge, Gauges, Histogram, Histograms, catalogue::consumer::*};

use crate::{Kind, Subscription};

/// The metrics of one consumer, cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    group: &'static str,
    records: Counters<2>,
    repeats: Counters<2>,
    dead_letters: Counters<3>,
    held: Counters<2>,
    replayed: Counters<2>,
    pub(crate) delivery: Histograms<2>,
    pub(crate) batch_seconds: Histogram,
    pub(crate) batch_records: Histogram,
    pub(crate) failures: Counter,
    pub(crate) blocked: Gauge,
    pub(crate) assigned: Gauges<2>,
    pub(crate) open_dead_letters: Gauges<2>,
    pub(crate) held_keys: Gauges<2>,
}

impl Metrics {
    /// Registers those of the member of this group; once per process.
    pub fn register(metrics: &telemetry::Metrics, subscription: &Subscription) -> Self {
        let group = subscription.group;
        let registered = Self {
            group,
            records: metrics.counters(&RECORDS),
            repeats: metrics.counters(&REPEATS),
            dead_letters: metrics.counters(&DEAD_LETTERS),
            held: metrics.counters(&HELD_RECORDS),
            replayed: metrics.counters(&REPLAYED_RECORDS),
            delivery: metrics.histograms(&DELIVERY_DURATION),
            batch_seconds: metrics.histograms(&BATCH_DURATION).with([group]),
            batch_records: metrics.histograms(&BATCH_RECORDS).with([group]),
            failures: metrics.counters(&BATCH_FAILURES).with([group]),
            blocked: metrics.gauges(&BLOCKED_PARTITIONS).with([group]),
            assigned: metrics.gauges(&ASSIGNED_PARTITIONS),
            open_dead_letters: metrics.gauges(&OPEN_DEAD_LETTERS),
            held_keys: metrics.gauges(&HELD_KEYS),
        };
        // All there from the start, so that the first record is an increase.
        for topic in subscription.topics {
            for counters in [&registered.records, &registered.repeats, &registered.held, &registered.replayed] {
                counters.with([group, topic.name]);
            }
            for kind in Kind::ALL {
                registered.dead_letters.with([group, topic.name, kind.as_str()]);
            }
            registered.delivery.with([group, topic.name]);
            for gauges in [&registered.assigned, &registered.open_dead_letters, &registered.held_keys] {
                gauges.with([group, topic.name]);
            }
        }
        registered
    }

    pub(crate) fn took_effect(&self, topic: &str) {
        self.records.with([self.group, topic]).inc();
    }

    pub(crate) fn repeated(&self, topic: &str) {
        self.repeats.with([self.group, topic]).inc();
    }

    pub(crate) fn replayed(&self, topic: &str) {
        self.replayed.with([self.group, topic]).inc();
    }

    /// With the kind of what failed, without one what waits behind it.
    pub(crate) fn parked(&self, topic: &str, kind: Option<Kind>) {
        match kind {
            Some(kind) => self.dead_letters.with([self.group, topic, kind.as_str()]).inc(),
            None => self.held.with([self.group, topic]).inc(),
        }
    }
}

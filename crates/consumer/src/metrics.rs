//! What a consumer counts. Names and meanings are in [`telemetry::catalogue::consumer`].

use std::{sync::Arc, time::Duration};

use telemetry::{Counter, Gauge, Gauges, Histogram, TraceId, catalogue::consumer::*};
use tokio::sync::Notify;

use crate::{Kind, Subscription};

/// The metrics of one consumer, cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    group: &'static str,
    topics: Arc<[OfTopic]>,
    open_dead_letters: Gauges<2>,
    held_keys: Gauges<2>,
    /// Something was parked, held or replayed, and that is committed.
    pub(crate) letters_changed: Arc<Notify>,
    pub(crate) batch_seconds: Histogram,
    pub(crate) batch_records: Histogram,
    pub(crate) failures: Counter,
    pub(crate) blocked: Gauge,
}

/// Those of one topic.
#[derive(Debug)]
struct OfTopic {
    name: &'static str,
    records: Counter,
    repeats: Counter,
    dead_letters: [(Kind, Counter); Kind::ALL.len()],
    held: Counter,
    replayed: Counter,
    delivery: Histogram,
    assigned: Gauge,
}

impl Metrics {
    /// Registers those of the member of this group; once per process.
    pub fn register(metrics: &telemetry::Metrics, subscription: &Subscription) -> Self {
        let group = subscription.group;
        let [records, repeats] = [&RECORDS, &REPEATS].map(|counters| metrics.counters(counters));
        let [held, replayed] = [&HELD_RECORDS, &REPLAYED_RECORDS].map(|counters| metrics.counters(counters));
        let dead_letters = metrics.counters(&DEAD_LETTERS);
        let delivery = metrics.histograms(&DELIVERY_DURATION);
        let assigned = metrics.gauges(&ASSIGNED_PARTITIONS);
        // All there from the start, so that the first record is an increase.
        let topics = subscription.topics.iter().map(|topic| OfTopic {
            name: topic.name,
            records: records.with([group, topic.name]),
            repeats: repeats.with([group, topic.name]),
            dead_letters: Kind::ALL.map(|kind| (kind, dead_letters.with([group, topic.name, kind.as_str()]))),
            held: held.with([group, topic.name]),
            replayed: replayed.with([group, topic.name]),
            delivery: delivery.with([group, topic.name]),
            assigned: assigned.with([group, topic.name]),
        });
        let registered = Self {
            group,
            topics: topics.collect(),
            open_dead_letters: metrics.gauges(&OPEN_DEAD_LETTERS),
            held_keys: metrics.gauges(&HELD_KEYS),
            letters_changed: Arc::default(),
            batch_seconds: metrics.histograms(&BATCH_DURATION).with([group]),
            batch_records: metrics.histograms(&BATCH_RECORDS).with([group]),
            failures: metrics.counters(&BATCH_FAILURES).with([group]),
            blocked: metrics.gauges(&BLOCKED_PARTITIONS).with([group]),
        };
        for topic in subscription.topics {
            registered.show_open(topic.name, 0, 0);
        }
        registered
    }

    /// A record has taken effect, so long after its event was made, in this trace where that is sampled.
    pub(crate) fn took_effect(&self, topic: &str, after: Duration, trace: Option<TraceId>) {
        if let Some(of) = self.of(topic) {
            of.records.inc();
            of.delivery.observe_in(after.as_secs_f64(), trace);
        }
    }

    pub(crate) fn repeated(&self, topic: &str) {
        self.of(topic).inspect(|of| of.repeats.inc());
    }

    pub(crate) fn replayed(&self, topic: &str) {
        self.of(topic).inspect(|of| of.replayed.inc());
    }

    /// With the kind of what failed, without one what waits behind it.
    pub(crate) fn parked(&self, topic: &str, kind: Option<Kind>) {
        let Some(of) = self.of(topic) else { return };
        match kind {
            None => of.held.inc(),
            Some(kind) => {
                of.dead_letters.iter().filter(|(of, _)| *of == kind).for_each(|(_, counter)| counter.inc());
            }
        }
    }

    /// Of a topic that may not be among the subscription's any more, what is still to be dealt with.
    pub(crate) fn show_open(&self, topic: &str, letters: i64, keys: i64) {
        self.open_dead_letters.with([self.group, topic]).set(letters as f64);
        self.held_keys.with([self.group, topic]).set(keys as f64);
    }

    /// It is not known any more what is still to be dealt with.
    pub(crate) fn forget_open(&self) {
        self.open_dead_letters.clear();
        self.held_keys.clear();
    }

    /// The gauges of assigned partitions, by topic.
    pub(crate) fn assigned(&self) -> impl Iterator<Item = (&'static str, Gauge)> {
        self.topics.iter().map(|of| (of.name, of.assigned.clone()))
    }

    /// Nothing for a topic that is not read any more, of which dead letters may be left.
    fn of(&self, topic: &str) -> Option<&OfTopic> {
        self.topics.iter().find(|of| of.name == topic)
    }
}

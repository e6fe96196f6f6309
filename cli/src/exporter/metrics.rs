//! A snapshot as metrics. Names and meanings are in [`telemetry::catalogue::kafka`].

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use telemetry::{Gauge, Gauges, catalogue::kafka::*};

use super::snapshot::Snapshot;

/// The exporter's metrics.
#[derive(Debug)]
pub(super) struct Metrics {
    brokers: Gauge,
    partitions: Family<1>,
    under_replicated: Family<2>,
    oldest_offset: Family<2>,
    current_offset: Family<2>,
    group_offset: Family<3>,
    group_lag: Family<3>,
    group_lag_seconds: Family<3>,
    lost: Family<3>,
    collected: Gauge,
    duration: Gauge,
}

impl Metrics {
    pub(super) fn register(metrics: &telemetry::Metrics) -> Self {
        Self {
            brokers: metrics.gauge(&BROKERS),
            partitions: Family::new(metrics.gauges(&PARTITIONS)),
            under_replicated: Family::new(metrics.gauges(&UNDER_REPLICATED)),
            oldest_offset: Family::new(metrics.gauges(&OLDEST_OFFSET)),
            current_offset: Family::new(metrics.gauges(&CURRENT_OFFSET)),
            group_offset: Family::new(metrics.gauges(&GROUP_OFFSET)),
            group_lag: Family::new(metrics.gauges(&GROUP_LAG)),
            group_lag_seconds: Family::new(metrics.gauges(&GROUP_LAG_SECONDS)),
            lost: Family::new(metrics.gauges(&RETENTION_LOSS)),
            collected: metrics.gauge(&COLLECTED),
            duration: metrics.gauge(&COLLECT_DURATION),
        }
    }

    /// Shows what was found, and nothing of what is missing.
    pub(super) fn show(&mut self, snapshot: &Snapshot, at: SystemTime, took: Duration) {
        self.brokers.set_count(snapshot.brokers);
        let counts = snapshot.partitions.chunk_by(|one, other| one.topic == other.topic);
        self.partitions.show(counts.map(|of| ([of[0].topic.clone()], of.len() as f64)));
        let partitions = || {
            let labels = |id: i32, topic: &str| [topic.to_owned(), id.to_string()];
            snapshot
                .partitions
                .iter()
                .map(move |partition| (labels(partition.id, &partition.topic), partition))
        };
        let flag = |is: bool| if is { 1.0 } else { 0.0 };
        self.under_replicated.show(partitions().map(|(labels, of)| (labels, flag(of.is_under_replicated))));
        let ends = || partitions().filter_map(|(labels, of)| Some((labels, of.ends?)));
        self.oldest_offset.show(ends().map(|(labels, ends)| (labels, ends.low as f64)));
        self.current_offset.show(ends().map(|(labels, ends)| (labels, ends.high as f64)));
        let positions = || {
            snapshot.positions.iter().map(|position| {
                let labels =
                    [position.group.to_owned(), position.topic.to_owned(), position.partition.to_string()];
                (labels, position)
            })
        };
        self.group_offset.show(positions().filter_map(|(labels, of)| Some((labels, of.committed? as f64))));
        self.group_lag.show(positions().map(|(labels, of)| (labels, of.lag as f64)));
        self.group_lag_seconds.show(positions().filter_map(|(labels, of)| Some((labels, of.lag_seconds?))));
        self.lost.show(positions().map(|(labels, of)| (labels, of.lost as f64)));
        if snapshot.missing.is_empty() {
            self.collected.set(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        }
        self.duration.set(took.as_secs_f64());
    }

    /// Shows nothing that is not known any more. That it was known once, and when, stays.
    pub(super) fn forget(&mut self) {
        self.brokers.set_count(0);
        self.partitions.show([]);
        for family in [&mut self.under_replicated, &mut self.oldest_offset, &mut self.current_offset] {
            family.show([]);
        }
        for family in
            [&mut self.group_offset, &mut self.group_lag, &mut self.group_lag_seconds, &mut self.lost]
        {
            family.show([]);
        }
    }
}

/// Gauges, and the labels of those that are shown.
#[derive(Debug)]
struct Family<const N: usize> {
    gauges: Gauges<N>,
    shown: BTreeSet<[String; N]>,
}

impl<const N: usize> Family<N> {
    fn new(gauges: Gauges<N>) -> Self {
        Self { gauges, shown: BTreeSet::new() }
    }

    /// Shows these and no others. Cleared only where one has gone: a scrape in between would find none.
    fn show(&mut self, values: impl IntoIterator<Item = ([String; N], f64)>) {
        let values: Vec<_> = values.into_iter().collect();
        let shown: BTreeSet<_> = values.iter().map(|(labels, _)| labels.clone()).collect();
        if !shown.is_superset(&self.shown) {
            self.gauges.clear();
        }
        for (labels, value) in &values {
            self.gauges.with(labels.each_ref().map(String::as_str)).set(*value);
        }
        self.shown = shown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exporter::snapshot::{Ends, Partition, Position};

    #[test]
    fn what_is_not_known_any_more_is_not_shown() {
        let registry = telemetry::Metrics::new();
        let mut metrics = Metrics::register(&registry);
        let ends = Ends { low: 2, high: 9 };
        let partition = |id| Partition {
            topic: "stock-results".to_owned(),
            id,
            is_under_replicated: false,
            ends: Some(ends),
        };
        let position =
            Position { lag_seconds: Some(1.5), ..Position::of("order", "stock-results", 0, Some(5), ends) };
        let snapshot = Snapshot {
            brokers: 1,
            partitions: vec![partition(0), partition(1)],
            positions: vec![position],
            ..Snapshot::default()
        };
        metrics.show(&snapshot, UNIX_EPOCH + Duration::from_secs(7), Duration::from_millis(20));
        let shown = registry.text();
        for line in [
            "kafka_brokers 1.0",
            r#"kafka_topic_partitions{topic="stock-results"} 2.0"#,
            r#"kafka_topic_partition_oldest_offset{topic="stock-results",partition="1"} 2.0"#,
            r#"kafka_consumergroup_lag{consumergroup="order",topic="stock-results",partition="0"} 4.0"#,
            r#"kafka_consumergroup_lag_seconds{consumergroup="order",topic="stock-results",partition="0"} 1.5"#,
            "kafka_exporter_last_success_timestamp_seconds 7.0",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line} is not in {shown}");
        }
        let fewer = Snapshot { partitions: vec![partition(0)], ..snapshot };
        metrics.show(&fewer, UNIX_EPOCH, Duration::ZERO);
        assert!(!registry.text().contains("partition=\"1\""));
        metrics.show(&fewer, UNIX_EPOCH + Duration::from_secs(8), Duration::ZERO);
        let missing = [("group order".to_owned(), "no coordinator".to_owned())].into();
        let half = Snapshot { positions: Vec::new(), missing, ..fewer };
        metrics.show(&half, UNIX_EPOCH + Duration::from_secs(9), Duration::ZERO);
        let left = registry.text();
        assert!(
            left.contains("\nkafka_brokers 1.0\n") && !left.contains("kafka_consumergroup_lag{"),
            "{left}"
        );
        assert!(left.contains("kafka_topic_partitions{"), "{left}");
        assert!(left.contains("\nkafka_exporter_last_success_timestamp_seconds 8.0\n"), "{left}");
        metrics.forget();
        let left = registry.text();
        assert!(!left.contains("stock-results") && left.contains("\nkafka_brokers 0.0\n"), "{left}");
        assert!(left.contains("\nkafka_exporter_last_success_timestamp_seconds 8.0\n"), "{left}");
    }
}

//! What was measured beside what is wanted of it. Ratios, where there is a peer: they hold on other machines too.

use serde::Serialize;

use super::{
    drain::Drain,
    live::Live,
    publisher::Publisher,
    report::Pass,
    table::{Format, Table},
};

/// The rate at which latencies are compared.
const COMPARED: u64 = 2000;

/// One comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Ratio {
    pub(super) what: &'static str,
    pub(super) value: f64,
    pub(super) bound: Bound,
    pub(super) holds: bool,
}

/// What is wanted of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// Every comparison for which both sides were measured. The first pass is without, the second with a held snapshot.
pub(super) fn all(passes: &[Pass]) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    let [free, rest @ ..] = passes else { return ratios };
    let mut add = |what, value: Option<f64>, bound: Bound| {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            ratios.push(Ratio { what, value, bound, holds: bound.holds(value) });
        }
    };
    use Bound::{AtLeast, AtMost};
    let drain = |publisher| free.drain.iter().find(|drain| drain.publisher == publisher);
    let debezium = || free.drain.iter().filter(|drain| drain.publisher.profile().is_some());
    let rate = |drain: &Drain| drain.events_per_second;
    let (relay, raw) = (drain(Publisher::Relay), drain(Publisher::Raw));
    let best = debezium().map(rate).reduce(f64::max);
    let cpu = |drain: &Drain| drain.cpu_per_100k.and_then(|cpu| cpu.publisher);
    let cheapest = debezium().filter_map(cpu).reduce(f64::min);
    add("drain: relay / raw producer", over(relay.map(rate), raw.map(rate)), AtLeast(0.3));
    add("drain: relay / fastest Debezium profile", over(relay.map(rate), best), AtLeast(2.5));
    add(
        "CPU for a drained event: relay / cheapest Debezium profile",
        over(relay.and_then(cpu), cheapest),
        AtMost(0.25),
    );
    add(
        "first record after the start of the process, ms",
        relay.map(|drain| drain.first_record_ms),
        AtMost(800.0),
    );
    let peaks = relay.and_then(|drain| drain.peak_rss_bytes).into_iter();
    let peaks = peaks.chain(live(free, Publisher::Relay, None).filter_map(|live| live.peak_rss_bytes));
    add("peak memory of the relay, MB", peaks.max().map(|bytes| bytes as f64 / 1e6), AtMost(40.0));

    let at = |pass, publisher, rate| live(pass, publisher, Some(rate)).next();
    let [ours, theirs] =
        [Publisher::Relay, Publisher::DebeziumLowLatency].map(|publisher| at(free, publisher, COMPARED));
    let p50 = |live: &Live| live.latency.map(|latency| latency.p50_ms);
    let p99 = |live: &Live| live.latency.map(|latency| latency.p99_ms);
    let cores = |live: &Live| live.cores.publisher;
    add("p50 at 2,000/s: relay / Debezium", over(ours.and_then(p50), theirs.and_then(p50)), AtMost(1.0));
    add("p99 at 2,000/s: relay / Debezium", over(ours.and_then(p99), theirs.and_then(p99)), AtMost(1.0));
    add(
        "CPU at 2,000/s: relay / Debezium",
        over(ours.and_then(cores), theirs.and_then(cores)),
        AtMost(1.0 / 3.0),
    );
    add("p50 of a lone event, ms", at(free, Publisher::Relay, 1).and_then(p50), AtMost(5.0));
    add("cores of an idle relay", at(free, Publisher::Relay, 0).and_then(cores), AtMost(0.01));
    if let [held, ..] = rest {
        let ours = over(at(held, Publisher::Relay, COMPARED).and_then(p99), ours.and_then(p99));
        add("p99 at 2,000/s: while a snapshot is held / without", ours, AtMost(2.0));
        let size = |pass: &Pass| {
            bytes_per_event(pass.drain.iter().find(|drain| drain.publisher == Publisher::Relay)?)
        };
        add(
            "bytes on disk for a drained event: while a snapshot is held / without",
            over(size(held), size(free)),
            AtMost(1.05),
        );
    }
    ratios
}

/// As a table.
pub(super) fn print(ratios: &[Ratio], format: Format) -> String {
    let mut table = Table::new("Beside what is wanted", &["figure", "measured", "wanted", "holds"]);
    for Ratio { what, value, bound, holds } in ratios {
        let wanted = match bound {
            Bound::AtLeast(bound) => format!("at least {}", short(*bound)),
            Bound::AtMost(bound) => format!("at most {}", short(*bound)),
        };
        table.row([(*what).to_owned(), short(*value), wanted, if *holds { "yes" } else { "NO" }.to_owned()]);
    }
    table.print(format)
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

fn live(pass: &Pass, publisher: Publisher, rate: Option<u64>) -> impl Iterator<Item = &Live> {
    let wanted = move |live: &&Live| live.publisher == publisher && rate.is_none_or(|rate| live.rate == rate);
    pass.live.iter().filter(wanted)
}

fn bytes_per_event(drain: &Drain) -> Option<f64> {
    Some(drain.sizes?.1.events as f64 / drain.events as f64)
}

fn over(ours: Option<f64>, theirs: Option<f64>) -> Option<f64> {
    Some(ours? / theirs?)
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        small if small >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::relay::{drain::Faults, meter::Spent};

    fn drain(publisher: Publisher, events_per_second: f64, cpu: f64) -> Drain {
        let spent = Spent { seconds: 1.0, publisher: Some(cpu), postgres: 1.0, kafka: 1.0, others: 0.0 };
        Drain {
            publisher,
            events: 1000,
            faults: Some(Faults { lost: 0, overtaken: 0, repeats: 0 }),
            events_per_second,
            second_half_events_per_second: events_per_second,
            tool_events_per_second: None,
            first_record_ms: 100.0,
            first_record_cpu_seconds: None,
            cpu_per_100k: Some(spent),
            peak_rss_bytes: Some(41_000_000),
            others_cores: 0.0,
            sizes: None,
            snapshot_held_seconds: None,
        }
    }

    #[test]
    fn the_best_profile_is_the_bar_and_what_was_not_measured_is_left_out() {
        let drains = vec![
            drain(Publisher::Relay, 100_000.0, 1.0),
            drain(Publisher::Raw, 200_000.0, 1.0),
            drain(Publisher::DebeziumDefault, 40_000.0, 3.0),
            drain(Publisher::DebeziumTuned, 50_000.0, 4.0),
        ];
        let ratios = all(&[Pass { drain: drains, ..Pass::default() }]);
        let found: Vec<(f64, bool)> = ratios.iter().map(|ratio| (ratio.value, ratio.holds)).collect();
        assert_eq!(found, [(0.5, true), (2.0, false), (1.0 / 3.0, false), (100.0, true), (41.0, false)]);
        let table = print(&ratios, Format::Markdown);
        assert!(
            table.contains("| drain: relay / fastest Debezium profile | 2.00 | at least 2.50 | NO |"),
            "{table}"
        );
        assert!(all(&[Pass::default()]).is_empty() && all(&[]).is_empty());
    }
}

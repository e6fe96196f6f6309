//! The figures of a run: as JSON, as tables for people, as tables for docs/BENCHMARKS.md.

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    conditions::Conditions,
    drain::{Drain, Faults},
    live::Live,
    ratio::{self, Ratio},
    table::{Format, Table, mebibytes, or_dash, thousands},
    writers::Writers,
};

/// What a run has measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    conditions: Conditions,
    ratios: Vec<Ratio>,
    passes: Vec<Pass>,
}

/// Everything measured once.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Pass {
    pub(super) snapshot_held: bool,
    pub(super) drain: Vec<Drain>,
    pub(super) live: Vec<Live>,
    pub(super) writers: Vec<Writers>,
}

impl Report {
    pub(super) fn new(conditions: Conditions, passes: Vec<Pass>) -> Self {
        Self { ratios: ratio::all(&passes), conditions, passes }
    }

    /// Whether nothing was lost and nothing overtaken, by anyone.
    pub(super) fn sound(&self) -> bool {
        let drains = self.passes.iter().flat_map(|pass| pass.drain.iter().filter_map(|drain| drain.faults));
        let lives = self.passes.iter().flat_map(|pass| pass.live.iter().map(|live| live.faults));
        drains.chain(lives).all(|faults| faults.lost == 0 && faults.overtaken == 0)
    }

    pub(super) fn print(&self, format: Format) -> String {
        let mut text = String::new();
        for (name, words) in self.conditions.iter() {
            // Writing to a String cannot fail.
            let _ = match format {
                Format::Text => writeln!(text, "{name:<13} {words}"),
                Format::Markdown => writeln!(text, "- **{name}**: `{}`", words.replace('`', "'")),
            };
        }
        text.push('\n');
        text.push_str(&ratio::print(&self.ratios, format));
        for pass in &self.passes {
            let suffix = if pass.snapshot_held { ", while a snapshot is held" } else { "" };
            text.push_str(&drains(&pass.drain, suffix).print(format));
            text.push_str(&lives(&pass.live, suffix).print(format));
            text.push_str(&writers(&pass.writers, suffix).print(format));
            text.push_str(&sizes(pass, suffix).print(format));
        }
        text
    }
}

fn drains(drains: &[Drain], suffix: &str) -> Table {
    let header = [
        "publisher",
        "events/s",
        "second half",
        "own count",
        "CPU s/100k",
        "PostgreSQL",
        "Kafka",
        "peak MiB",
        "first record ms",
        "CPU s until then",
        "lost",
        "overtaken",
        "repeats",
        "others' cores",
    ];
    let mut table = Table::new(format!("Drain{suffix}"), &header);
    for drain in drains {
        let spent = drain.cpu_per_100k;
        table.row([
            drain.publisher.name().to_owned(),
            thousands(drain.events_per_second),
            thousands(drain.second_half_events_per_second),
            or_dash(drain.tool_events_per_second, thousands),
            or_dash(spent.and_then(|spent| spent.publisher), seconds),
            or_dash(spent.map(|spent| spent.postgres), seconds),
            or_dash(spent.map(|spent| spent.kafka), seconds),
            or_dash(drain.peak_rss_bytes, mebibytes),
            format!("{:.0}", drain.first_record_ms),
            or_dash(drain.first_record_cpu_seconds, seconds),
            fault(drain.faults, |faults| faults.lost),
            fault(drain.faults, |faults| faults.overtaken),
            fault(drain.faults, |faults| faults.repeats),
            seconds(drain.others_cores),
        ]);
    }
    table
}

fn lives(lives: &[Live], suffix: &str) -> Table {
    let header = [
        "publisher",
        "events/s",
        "a transaction",
        "written/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "max ms",
        "cores",
        "PostgreSQL",
        "Kafka",
        "MiB",
        "lost",
        "overtaken",
        "repeats",
        "others' cores",
    ];
    let mut table = Table::new(format!("Live: from commit to consumer{suffix}"), &header);
    for live in lives {
        let latency = live.latency;
        table.row([
            live.publisher.name().to_owned(),
            if live.rate == 0 { "idle".to_owned() } else { thousands(live.rate as f64) },
            live.transaction_rows.to_string(),
            thousands(live.achieved),
            or_dash(latency.map(|latency| latency.p50_ms), millis),
            or_dash(latency.map(|latency| latency.p95_ms), millis),
            or_dash(latency.map(|latency| latency.p99_ms), millis),
            or_dash(latency.map(|latency| latency.max_ms), millis),
            or_dash(live.cores.publisher, cores),
            cores(live.cores.postgres),
            cores(live.cores.kafka),
            or_dash(live.rss_bytes, mebibytes),
            live.faults.lost.to_string(),
            live.faults.overtaken.to_string(),
            live.faults.repeats.to_string(),
            seconds(live.cores.others),
        ]);
    }
    table
}

fn writers(writers: &[Writers], suffix: &str) -> Table {
    let header =
        ["transaction", "sessions", "transactions/s", "of the first", "PostgreSQL cores", "others' cores"];
    let mut table = Table::new(format!("Writers: what the append costs{suffix}"), &header);
    let first = writers.first().map(|writers| writers.transactions_per_second);
    for writers in writers {
        table.row([
            writers.kind.words().to_owned(),
            writers.sessions.to_string(),
            thousands(writers.transactions_per_second),
            or_dash(first, |first| format!("{:.2}", writers.transactions_per_second / first)),
            seconds(writers.cores.postgres),
            seconds(writers.cores.others),
        ]);
    }
    table
}

fn sizes(pass: &Pass, suffix: &str) -> Table {
    let header = [
        "publisher",
        "measured",
        "events before",
        "events after",
        "bytes an event",
        "cursor before",
        "cursor after",
        "snapshot held s",
    ];
    let mut table = Table::new(format!("Tables in KiB, indexes included{suffix}"), &header);
    let kibibytes = |bytes: i64| thousands(bytes as f64 / 1024.0);
    let held = |seconds: Option<f64>| or_dash(seconds, |seconds| format!("{seconds:.0}"));
    for drain in &pass.drain {
        let Some((before, after)) = drain.sizes else { continue };
        table.row([
            drain.publisher.name().to_owned(),
            "drain".to_owned(),
            kibibytes(before.events),
            kibibytes(after.events),
            thousands(after.events as f64 / drain.events as f64),
            kibibytes(before.cursor),
            kibibytes(after.cursor),
            held(drain.snapshot_held_seconds),
        ]);
    }
    for live in &pass.live {
        let (before, after) = live.sizes;
        let events = live.rate as f64;
        table.row([
            live.publisher.name().to_owned(),
            format!("live, {}/s", thousands(events)),
            kibibytes(before.events),
            kibibytes(after.events),
            "—".to_owned(),
            kibibytes(before.cursor),
            kibibytes(after.cursor),
            held(live.snapshot_held_seconds),
        ]);
    }
    table
}

fn fault(faults: Option<Faults>, count: impl FnOnce(Faults) -> u64) -> String {
    or_dash(faults, |faults| count(faults).to_string())
}

fn seconds(value: f64) -> String {
    format!("{value:.2}")
}

fn millis(value: f64) -> String {
    format!("{value:.1}")
}

fn cores(value: f64) -> String {
    format!("{value:.3}")
}

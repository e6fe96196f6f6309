//! How fast a backlog is published: from the first record that the broker has to the last.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::{
    Args,
    broker::{Broker, Contents},
    meter::{Meter, Reading, Spent, peak_rss},
    outbox::{Outbox, Sizes},
    publisher::Publisher,
    servers::Servers,
    snapshot::Held,
};
use crate::output;

/// How long a drain may take.
pub(super) const WITHIN: Duration = Duration::from_secs(1800);
/// How often the broker is asked: for its first record, and then for its last.
const ASK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));

/// What one drain has shown.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Drain {
    pub(super) publisher: Publisher,
    pub(super) events: u64,
    /// Absent where there is nothing to compare with.
    pub(super) faults: Option<Faults>,
    pub(super) events_per_second: f64,
    /// Of the second half alone, when a virtual machine is warm.
    pub(super) second_half_events_per_second: f64,
    /// As `kafka-producer-perf-test` itself says.
    pub(super) tool_events_per_second: Option<f64>,
    /// From the start of the process to its first record at the broker.
    pub(super) first_record_ms: f64,
    /// Processor time that the publisher took for that.
    pub(super) first_record_cpu_seconds: Option<f64>,
    /// Seconds of processor time for each 100,000 events, from the first record to the last.
    pub(super) cpu_per_100k: Option<Spent>,
    pub(super) peak_rss_bytes: Option<u64>,
    /// Cores that others used meanwhile.
    pub(super) others_cores: f64,
    /// Before and after.
    pub(super) sizes: Option<(Sizes, Sizes)>,
    /// How long the snapshot was held, in seconds.
    pub(super) snapshot_held_seconds: Option<f64>,
}

/// What must not be: each is to be 0, but repeats, of which a crash may leave some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Faults {
    pub(super) lost: u64,
    pub(super) overtaken: u64,
    pub(super) repeats: u64,
}

/// A drain as it was watched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    first: Reading,
    last: Reading,
    /// Records that came between the readings.
    between: u64,
    peak_rss: Option<u64>,
}

/// Fills an outbox, starts its publisher, and waits until all is published.
pub(super) async fn measure(
    servers: &Servers,
    publisher: Publisher,
    args: &Args,
    held: Option<Duration>,
) -> anyhow::Result<Drain> {
    let rows = args.rows;
    output::note(format!("drain, {}: {rows} rows", publisher.name()));
    let purpose = if held.is_some() { "drain-held" } else { "drain" };
    let outbox = Outbox::create(servers, publisher, purpose, args.cloud_events).await?;
    let snapshot = match held {
        Some(_) => Some(Held::open(servers, &outbox.database).await?),
        None => None,
    };
    outbox.fill(rows, args.transaction_rows).await?;
    servers.checkpoint().await?;
    let before = outbox.sizes(servers).await?;

    let broker = servers.broker()?;
    let running = publisher.start(servers, &outbox)?;
    let (process, started) = (running.process, running.started);
    let meter = Meter::new(servers, Some(process))?;
    let watched = watch(&broker, &outbox.topic, rows, meter, || process.is_alive()).await;
    let watched = watched.with_context(|| format!("see {}", servers.log(publisher.name()).display()))?;
    running.stop().await?;
    let after = outbox.sizes(servers).await?;
    let mut drain = Drain::new(publisher, rows, started, watched, &broker.read(&outbox.topic).await?)?;
    drain.sizes = Some((before, after));
    if let Some(snapshot) = snapshot {
        drain.snapshot_held_seconds = Some(snapshot.release().await?);
    }
    outbox.drop(servers).await?;
    output::note(format!("  {:.0} events/s", drain.events_per_second));
    Ok(drain)
}

/// Waits until the topic holds so many records.
pub(super) async fn watch(
    broker: &Broker,
    topic: &str,
    rows: u64,
    meter: Meter,
    alive: impl Fn() -> bool,
) -> anyhow::Result<Watched> {
    let deadline = Instant::now() + WITHIN;
    let (mut first, mut told) = (None, Instant::now());
    loop {
        // A publisher that has ended may have done its work: it is the broker that says so.
        let ended = !alive();
        let held = broker.held(topic).await?;
        let reading = meter.read();
        if held > 0 && first.is_none() {
            first = Some((reading, held));
        }
        if let (Some((first, base)), true) = (first, held >= rows) {
            let peak_rss = meter.publisher().and_then(peak_rss);
            return Ok(Watched { first, last: reading, between: held - base, peak_rss });
        }
        ensure!(!ended, "the publisher ended after {held} of {rows} records");
        if Instant::now() > deadline {
            bail!("{held} of {rows} records were published in {} s", WITHIN.as_secs());
        }
        if told.elapsed() > Duration::from_secs(5) {
            output::note(format!("  {held} of {rows} published"));
            told = Instant::now();
        }
        sleep(if first.is_some() { ASK.1 } else { ASK.0 }).await;
    }
}

impl Drain {
    pub(super) fn new(
        publisher: Publisher,
        rows: u64,
        started: SystemTime,
        watched: Watched,
        contents: &Contents,
    ) -> anyhow::Result<Self> {
        let appended = &contents.appended;
        let (first, last) = appended.first().zip(appended.last()).context("nothing was published")?;
        let started = started.duration_since(UNIX_EPOCH)?.as_secs_f64() * 1e3;
        let spent = watched.first.until(watched.last);
        let faults = Faults {
            lost: rows.saturating_sub(contents.distinct),
            overtaken: contents.overtaken,
            repeats: contents.repeats,
        };
        Ok(Self {
            publisher,
            events: rows,
            faults: Some(faults),
            events_per_second: rate(appended),
            second_half_events_per_second: rate(&appended[appended.len() / 2..]),
            tool_events_per_second: None,
            first_record_ms: *first as f64 - started,
            first_record_cpu_seconds: watched.first.publisher(),
            // Where the first reading was also the last one, nothing was measured.
            cpu_per_100k: spent.per_100k(watched.between).filter(|_| last > first),
            peak_rss_bytes: watched.peak_rss,
            others_cores: spent.cores().others,
            sizes: None,
            snapshot_held_seconds: None,
        })
    }
}

/// Records a second of those whose times these are. The broker counts in milliseconds.
fn rate(appended: &[i64]) -> f64 {
    match appended {
        [first, .., last] => (appended.len() - 1) as f64 * 1e3 / (last - first).max(1) as f64,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_intervals() {
        assert_eq!(rate(&[1000, 1010, 1020]), 100.0);
        assert_eq!(rate(&[5, 5, 5]), 2000.0);
        assert_eq!(rate(&[5]), 0.0);
    }
}

//! How long an event takes from its commit to a consumer, at several rates.
//!
//! One clock for both ends: the writers and the consumer are threads of this process. The consumer is the same for
//! every publisher, and its fetch is part of what is measured.

mod arrivals;
mod schedule;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use self::{arrivals::Arrivals, schedule::Schedule};
use super::{
    Args,
    drain::Faults,
    meter::{Meter, Spent, peak_rss},
    outbox::{Outbox, SESSIONS, Sizes, key},
    publisher::{Publisher, Running},
    record::Record,
    servers::Servers,
    snapshot::Held,
};
use crate::{load::Latency, output, platform::process::Identity};

/// Events a second, and how many each transaction has. The first is a system that nobody uses.
const RATES: [(u64, u64); 5] = [(0, 1), (1, 1), (500, 1), (2000, 1), (10_000, 10)];
/// What comes before anything is counted.
const WARM_UP: Duration = Duration::from_secs(3);
/// How long the broker is warmed up.
const BROKER_WARM_UP: Duration = Duration::from_secs(20);
/// How long the first event may take, with the start of a virtual machine, and the last one after its commit.
const FIRST_WITHIN: Duration = Duration::from_secs(120);
const LAST_WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);
/// Longest latency told apart, in microseconds.
const LONGEST: u64 = 600_000_000;

/// What one rate has shown.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Live {
    pub(super) publisher: Publisher,
    /// Events a second that were to be written.
    pub(super) rate: u64,
    pub(super) transaction_rows: u64,
    /// Events a second that were written.
    pub(super) achieved: f64,
    /// Events whose latency was counted.
    pub(super) events: u64,
    /// From the return of the commit to the consumer's receipt; absent on an idle system.
    pub(super) latency: Option<Latency>,
    pub(super) faults: Faults,
    /// Cores in use meanwhile; PostgreSQL's with those of the writers' sessions.
    pub(super) cores: Spent,
    pub(super) rss_bytes: Option<u64>,
    pub(super) peak_rss_bytes: Option<u64>,
    /// Before and after.
    pub(super) sizes: (Sizes, Sizes),
    /// How long the snapshot had been held at the end, in seconds.
    pub(super) snapshot_held_seconds: Option<f64>,
}

/// Lets the broker's virtual machine compile what many small requests need, so that the first who is measured is not the
/// one that pays for it.
pub(super) async fn warm_up(servers: &Servers, args: &Args) -> anyhow::Result<()> {
    output::note("warming the broker up with small requests");
    let outbox = Outbox::create(servers, Publisher::Relay, "live-warm-up", args.cloud_events).await?;
    rates(servers, Publisher::Relay, outbox, BROKER_WARM_UP, None, &[(2000, 1)]).await.map(drop)
}

/// Measures every rate, one after another, on one publisher that stays up.
pub(super) async fn measure(
    servers: &Servers,
    publisher: Publisher,
    args: &Args,
    held: Option<Duration>,
) -> anyhow::Result<Vec<Live>> {
    let purpose = if held.is_some() { "live-held" } else { "live" };
    let outbox = Outbox::create(servers, publisher, purpose, args.cloud_events).await?;
    // All rates together last as long as the snapshot is to be held.
    let seconds = Duration::from_secs(args.seconds).max(held.unwrap_or_default() / RATES.len() as u32);
    rates(servers, publisher, outbox, seconds, held, &RATES).await
}

async fn rates(
    servers: &Servers,
    publisher: Publisher,
    outbox: Outbox,
    seconds: Duration,
    held: Option<Duration>,
    rates: &[(u64, u64)],
) -> anyhow::Result<Vec<Live>> {
    let outbox = Arc::new(outbox);
    let running = publisher.start(servers, &outbox)?;
    let ready = first(servers, &outbox, &running).await;
    ready
        .with_context(|| format!("{}: see {}", publisher.name(), servers.log(publisher.name()).display()))?;
    let snapshot = match held {
        Some(_) => Some(Held::open(servers, &outbox.database).await?),
        None => None,
    };
    let (mut measured, mut next) = (Vec::new(), 1);
    for &(rate, transaction_rows) in rates {
        output::note(format!(
            "live, {}: {rate} events/s, {transaction_rows} in a transaction",
            publisher.name()
        ));
        let schedule = Schedule::new(rate / transaction_rows, WARM_UP, seconds);
        let run = Run { servers, outbox: &outbox, process: running.process, first: next, transaction_rows };
        next += schedule.len() * transaction_rows;
        let mut live = run.measure(publisher, rate, schedule).await?;
        live.snapshot_held_seconds = snapshot.as_ref().map(Held::seconds);
        measured.push(live);
    }
    running.stop().await?;
    if let Some(snapshot) = snapshot {
        snapshot.release().await?;
    }
    Arc::into_inner(outbox).context("a writer has not ended")?.drop(servers).await?;
    Ok(measured)
}

/// Waits until event 0 has come through: from then on the publisher is warm enough to be asked for more.
async fn first(servers: &Servers, outbox: &Outbox, running: &Running) -> anyhow::Result<()> {
    outbox.append(&[Record { number: 0, key: 0 }]).await?;
    let (broker, deadline) = (servers.broker()?, Instant::now() + FIRST_WITHIN);
    while broker.held(&outbox.topic).await? == 0 {
        ensure!(running.process.is_alive(), "it has ended");
        ensure!(
            Instant::now() < deadline,
            "its first event did not come within {} s",
            FIRST_WITHIN.as_secs()
        );
        sleep(LOOK).await;
    }
    Ok(())
}

/// One rate.
struct Run<'r> {
    servers: &'r Servers,
    outbox: &'r Arc<Outbox>,
    process: Identity,
    /// The number of its first event.
    first: u64,
    transaction_rows: u64,
}

impl Run<'_> {
    async fn measure(&self, publisher: Publisher, rate: u64, schedule: Schedule) -> anyhow::Result<Live> {
        let Self { servers, outbox, process, first, transaction_rows } = *self;
        let before = outbox.sizes(servers).await?;
        let events = schedule.len() * transaction_rows;
        let positions = servers.broker()?.ends(&outbox.topic).await?;
        let arrivals = Arrivals::start(servers.kafka(), &positions, first, events)?;
        let (began, counted_from) = (Instant::now(), schedule.counted_from());
        let schedule = Arc::new(schedule);
        let committed: Arc<Vec<AtomicU64>> =
            Arc::new((0..schedule.len()).map(|_| AtomicU64::new(0)).collect());
        let mut writers = JoinSet::new();
        for session in 0..u64::from(SESSIONS) {
            let (outbox, schedule, committed) =
                (Arc::clone(outbox), Arc::clone(&schedule), Arc::clone(&committed));
            writers.spawn(async move {
                // Each transaction has one session, so that each key is written in ascending order.
                for transaction in (session..schedule.len()).step_by(SESSIONS as usize) {
                    sleep_until(began + schedule.due(transaction)).await;
                    let number = first + transaction * transaction_rows;
                    let records: Vec<Record> = (number..number + transaction_rows)
                        .map(|number| Record { number, key: key(session, number) })
                        .collect();
                    outbox.append(&records).await?;
                    committed[usize::try_from(transaction)?].store(nanos(began), Ordering::Relaxed);
                }
                anyhow::Ok(())
            });
        }
        let meter = Meter::new(servers, Some(process))?;
        sleep_until(began + WARM_UP).await;
        let reading = meter.read();
        while let Some(writer) = writers.join_next().await {
            writer??;
        }
        sleep_until(began + schedule.duration()).await;
        let cores = reading.until(meter.read()).cores();
        ensure!(
            process.is_alive(),
            "{} has ended; see {}",
            publisher.name(),
            servers.log(publisher.name()).display()
        );

        let deadline = Instant::now() + LAST_WITHIN;
        while arrivals.distinct() < events && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        let arrived = arrivals.stop().await?;
        let mut histogram = Histogram::<u64>::new_with_bounds(1, LONGEST, 3)?;
        let (mut last_commit, mut counted) = (0, 0_u64);
        for (transaction, committed) in committed.iter().enumerate() {
            let committed = committed.load(Ordering::Relaxed);
            if transaction < counted_from {
                continue;
            }
            last_commit = committed.max(last_commit);
            counted += transaction_rows;
            let rows = usize::try_from(transaction_rows)?;
            for arrived in arrived.at.iter().skip(transaction * rows).take(rows).flatten() {
                // The consumer may have the event before the writer has its answer.
                let nanos = arrived.saturating_duration_since(began.into_std()).as_nanos();
                let micros = u64::try_from(nanos)?.saturating_sub(committed) / 1000;
                histogram.saturating_record(micros.max(1));
            }
        }
        // Longer than was planned, where the writers did not keep up.
        let seconds = Duration::from_nanos(last_commit).max(schedule.duration()).saturating_sub(WARM_UP);
        Ok(Live {
            publisher,
            rate,
            transaction_rows,
            achieved: counted as f64 / seconds.as_secs_f64().max(0.001),
            events: counted,
            latency: percentiles(&histogram),
            faults: Faults {
                lost: events - arrived.distinct,
                overtaken: arrived.overtaken,
                repeats: arrived.repeats,
            },
            cores,
            rss_bytes: process.usage().map(|usage| usage.rss_bytes),
            peak_rss_bytes: peak_rss(process),
            sizes: (before, outbox.sizes(servers).await?),
            snapshot_held_seconds: None,
        })
    }
}

fn nanos(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Unknown where nothing was measured.
fn percentiles(micros: &Histogram<u64>) -> Option<Latency> {
    let at = |quantile| micros.value_at_quantile(quantile) as f64 / 1e3;
    let latency = Latency { p50_ms: at(0.5), p95_ms: at(0.95), p99_ms: at(0.99), max_ms: at(1.0) };
    (!micros.is_empty()).then_some(latency)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_milliseconds() -> anyhow::Result<()> {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, LONGEST, 3)?;
        assert_eq!(percentiles(&histogram), None);
        for micros in (1000..=100_000).step_by(1000) {
            histogram.saturating_record(micros);
        }
        let latency = percentiles(&histogram).context("something was recorded")?;
        let near = |measured: f64, expected: f64| (measured - expected).abs() / expected < 0.001;
        assert!(
            near(latency.p50_ms, 50.0) && near(latency.p99_ms, 99.0) && near(latency.max_ms, 100.0),
            "{latency:?}"
        );
        Ok(())
    }
}

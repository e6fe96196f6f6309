//! The figures of a run, for people and as JSON.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    hops::Hops,
    processes::Cost,
    tally::{Counts, millis},
    watch::{MissedOrder, Watched},
};

/// What a run has measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the run, and of its file of acknowledged orders.
    pub run: String,
    /// Whether every order was acknowledged and recorded, every cancel answered, every acknowledged order reached its
    /// final status, and every watcher was told everything once.
    pub passed: bool,
    /// Makes another run place the same orders.
    pub seed: u64,
    /// Orders a second, in an open model.
    pub rate: Option<u32>,
    /// Callers, in a closed model.
    pub concurrency: Option<u32>,
    /// How long orders were placed.
    pub seconds: f64,
    /// Of the database cluster.
    pub system_identifier: i64,
    /// What became of the calls.
    pub orders: Orders,
    /// What became of the cancels.
    pub cancels: Cancels,
    /// Acknowledged orders a second, up to the last acknowledgement.
    pub accepted_per_second: f64,
    /// From the intended start to the acknowledgement.
    pub accept_latency: Option<Latency>,
    /// What became of the acknowledged orders; absent when they were not followed.
    #[serde(rename = "final")]
    pub finals: Option<Final>,
    /// What watchers were told; absent when nobody watched.
    pub watched: Option<Watched>,
    /// Failed calls by gRPC code, streams among them; repeated ones count each time.
    pub errors: BTreeMap<&'static str, u64>,
    /// What the processes of the platform have cost.
    pub processes: Vec<Cost>,
    /// The file of acknowledged orders.
    pub acked: PathBuf,
}

/// Orders by the outcome of their calls.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Orders {
    /// Orders whose time had come.
    pub offered: u64,
    /// Of these, how many had to wait because too many were unanswered.
    pub delayed: u64,
    /// Acknowledged.
    pub accepted: u64,
    /// Refused for good.
    pub rejected: u64,
    /// Without an answer within the time.
    pub gave_up: u64,
    /// Acknowledged, but not written down.
    pub unrecorded: u64,
}

/// Cancels by the outcome of their calls.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cancels {
    /// Acknowledged orders that were to be cancelled.
    pub asked: u64,
    /// Of these, how many the platform has promised to cancel.
    pub accepted: u64,
    /// Of these, how many could not be cancelled any more.
    pub too_late: u64,
}

/// Acknowledged orders by where they ended.
#[derive(Clone, Debug, Serialize)]
pub struct Final {
    /// Orders by final status, such as CONFIRMED.
    pub by_status: BTreeMap<String, u64>,
    /// Orders without a final status when patience ended.
    pub unsettled: u64,
    /// Confirmed orders a second, up to the last confirmation.
    pub confirmed_per_second: f64,
    /// From the intended start to the final status.
    pub latency: Option<Latency>,
    /// The same for confirmed orders only: from the intended start to the confirmation.
    pub confirmed_latency: Option<Latency>,
    /// What this is made of; unknown when the order database did not tell.
    pub hops: Option<Hops>,
}

/// Percentiles in milliseconds, to three digits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Half of all were faster.
    pub p50_ms: f64,
    /// 95 of 100 were faster.
    pub p95_ms: f64,
    /// 99 of 100 were faster.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl Latency {
    /// Unknown where nothing was measured.
    pub(super) fn of(micros: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| millis(micros.value_at_quantile(quantile));
        let latency = Self { p50_ms: at(0.5), p95_ms: at(0.95), p99_ms: at(0.99), max_ms: at(1.0) };
        (!micros.is_empty()).then_some(latency)
    }
}

impl Orders {
    /// Whether every order was acknowledged and recorded.
    pub(super) fn passed(&self) -> bool {
        self.accepted == self.offered && self.unrecorded == 0
    }
}

impl From<&Counts> for Orders {
    fn from(counts: &Counts) -> Self {
        let &Counts { offered, delayed, accepted, rejected, gave_up, unrecorded, .. } = counts;
        Self { offered, delayed, accepted, rejected, gave_up, unrecorded }
    }
}

impl Cancels {
    /// Whether every cancel has had an answer.
    pub(super) fn passed(&self) -> bool {
        self.accepted + self.too_late == self.asked
    }
}

impl From<&Counts> for Cancels {
    fn from(counts: &Counts) -> Self {
        let &Counts { cancels, cancels_accepted, cancels_too_late, .. } = counts;
        Self { asked: cancels, accepted: cancels_accepted, too_late: cancels_too_late }
    }
}

impl Final {
    pub(super) fn new(counts: &Counts, unsettled: u64, hops: Option<Hops>) -> Self {
        let confirmed = counts.finals.get("CONFIRMED").copied().unwrap_or_default();
        Self {
            by_status: counts.finals.clone(),
            unsettled,
            confirmed_per_second: per_second(confirmed, counts.last_confirmed),
            latency: Latency::of(&counts.settle),
            confirmed_latency: Latency::of(&counts.confirm),
            hops,
        }
    }

    /// Whether every acknowledged order reached a status that needs nobody's attention.
    pub(super) fn passed(&self) -> bool {
        self.unsettled == 0 && !self.by_status.contains_key("NEEDS_ATTENTION")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Orders { offered, delayed, accepted, rejected, gave_up, unrecorded } = self.orders;
        writeln!(f, "run       {} (seed {}), {:.1} s", self.run, self.seed, self.seconds)?;
        writeln!(
            f,
            "orders    {offered} offered, {accepted} accepted ({:.1}/s), {rejected} rejected, {gave_up} without an answer, {delayed} delayed",
            self.accepted_per_second
        )?;
        show(f, "accepted", self.accept_latency)?;
        let Cancels { asked, accepted, too_late } = self.cancels;
        if asked > 0 {
            writeln!(f, "cancels   {asked} asked, {accepted} accepted, {too_late} too late")?;
        }
        if let Some(finals) = &self.finals {
            write!(f, "final     ")?;
            for (status, count) in &finals.by_status {
                write!(f, "{count} {status}, ")?;
            }
            writeln!(f, "{} unsettled ({:.1} confirmed/s)", finals.unsettled, finals.confirmed_per_second)?;
            show(f, "settled", finals.latency)?;
            show(f, "confirmed", finals.confirmed_latency)?;
            if let Some(hops) = finals.hops.as_ref().filter(|hops| hops.orders > 0) {
                show(f, "stock", hops.stock)?;
                show(f, "payment", hops.payment)?;
                show(f, "shipment", hops.shipment)?;
            }
        }
        if let Some(watched) = &self.watched {
            write!(f, "{watched}")?;
        }
        for (code, count) in &self.errors {
            writeln!(f, "errors    {count} {code}")?;
        }
        for process in &self.processes {
            let mebibytes = |bytes: u64| bytes / (1 << 20);
            write!(f, "process   {:<14} ", process.name)?;
            match (process.cpu_seconds, process.rss_after_bytes) {
                (Some(cpu), Some(after)) => {
                    let (before, after) = (mebibytes(process.rss_before_bytes), mebibytes(after));
                    writeln!(f, "{cpu:>8.2} s CPU, {before} -> {after} MiB")?;
                }
                _ => writeln!(f, "ended during the run")?,
            }
        }
        if unrecorded > 0 {
            writeln!(f, "warning   {unrecorded} acknowledged orders were not recorded")?;
        }
        writeln!(f, "{}    {}", if self.passed { "passed" } else { "FAILED" }, self.acked.display())
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { orders, most_open, transitions, resumed, repeated, .. } = self;
        let missed = self.missed.map_or("unknown how many".to_owned(), |missed| missed.to_string());
        write!(f, "watched   {orders} orders, at most {most_open} at once, {transitions} transitions, ")?;
        write!(f, "{resumed} resumed, {missed} missed, {repeated} repeated")?;
        if self.went_on > 0 {
            write!(f, ", {} went on after their end", self.went_on)?;
        }
        writeln!(f)?;
        show(f, "arrived", self.late)?;
        for order in &self.missed_orders {
            let MissedOrder { order_id, transitions, last_version, stored_events, stored_version, ending } =
                order;
            writeln!(
                f,
                "missed    {order_id} told {transitions} up to {last_version}, stored {stored_events} up to {stored_version} ({ending})"
            )?;
        }
        match self.missed.unwrap_or_default().saturating_sub(self.missed_orders.len() as u64) {
            0 => Ok(()),
            more => writeln!(f, "missed    {more} more"),
        }
    }
}

fn show(f: &mut fmt::Formatter<'_>, name: &str, latency: Option<Latency>) -> fmt::Result {
    match latency {
        Some(Latency { p50_ms, p95_ms, p99_ms, max_ms }) => writeln!(
            f,
            "{name:<9} p50 {p50_ms:.1} ms, p95 {p95_ms:.1} ms, p99 {p99_ms:.1} ms, max {max_ms:.1} ms"
        ),
        None => writeln!(f, "{name:<9} —"),
    }
}

/// 0 where no time has passed.
pub(super) fn per_second(count: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;
    use crate::load::tally::{self, Tally};

    #[test]
    fn percentiles_are_those_of_the_samples() -> anyhow::Result<()> {
        let tally = Tally::new()?;
        let mut counts = tally.counts();
        for millis in 1..=1000 {
            tally::record(&mut counts.accept, Duration::from_millis(millis));
        }
        assert_eq!(Latency::of(&counts.settle), None);
        let latency = Latency::of(&counts.accept).context("samples were recorded")?;
        let near = |measured: f64, expected: f64| (measured - expected).abs() / expected < 0.001;
        assert!(near(latency.p50_ms, 500.0) && near(latency.p95_ms, 950.0), "{latency:?}");
        assert!(near(latency.p99_ms, 990.0) && near(latency.max_ms, 1000.0), "{latency:?}");
        Ok(())
    }

    #[test]
    fn a_latency_beyond_the_scale_is_not_lost() -> anyhow::Result<()> {
        let tally = Tally::new()?;
        let mut counts = tally.counts();
        tally::record(&mut counts.accept, Duration::MAX);
        tally::record(&mut counts.accept, Duration::ZERO);
        assert_eq!(counts.accept.len(), 2);
        assert!(Latency::of(&counts.accept).is_some_and(|latency| latency.max_ms >= 3_600_000.0));
        Ok(())
    }

    #[test]
    fn passes_only_when_everything_was_acknowledged_and_settled() -> anyhow::Result<()> {
        let tally = Tally::new()?;
        let mut counts = tally.counts();
        (counts.offered, counts.accepted) = (2, 2);
        counts.finals.insert("CONFIRMED".to_owned(), 1);
        assert!(Orders::from(&*counts).passed());
        assert!(!Final::new(&counts, 1, None).passed());
        assert!(Final::new(&counts, 0, None).passed());
        counts.finals.insert("NEEDS_ATTENTION".to_owned(), 1);
        assert!(!Final::new(&counts, 0, None).passed());
        (counts.cancels, counts.cancels_accepted, counts.cancels_too_late) = (3, 1, 1);
        assert!(!Cancels::from(&*counts).passed());
        counts.cancels_too_late = 2;
        assert!(Cancels::from(&*counts).passed());
        (counts.accepted, counts.gave_up) = (1, 1);
        assert!(!Orders::from(&*counts).passed());
        Ok(())
    }
}

//! `orderly bench telemetry`: what it costs to be seen. The throughput of a whole platform that samples and exports its
//! traces as it does by default, beside the same platform without any, in pairs that alternate.
//!
//! Metrics and logs are part of both: no platform runs without them.

mod sink;

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Serialize;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use self::sink::Sink;
use super::table::{Format, Table, thousands};
use crate::{
    load::{self, Model, Options, Report},
    output,
    platform::{DataDir, Platform},
    up::{ports::free_flags, signals},
};

/// How much of the throughput telemetry may cost.
const WANTED: f64 = 0.95;

/// Arguments of `orderly bench telemetry`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Pairs of runs: one with telemetry, one without
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    pairs: u16,
    /// How long orders are placed in each run
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Callers that each wait for their answer before they place the next order
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Folder for the platform's data, deleted at the end
    #[arg(long, value_name = "PATH", default_value = "target/bench/telemetry")]
    work_dir: PathBuf,
    /// Put the figures on stdout as one JSON object
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Put the figures on stdout as the table of docs/BENCHMARKS.md
    #[arg(long)]
    markdown: bool,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    confirmed_per_second: f64,
    /// Of every process of the platform, servers included; not of who places the orders and receives the spans.
    cpu_seconds_per_1000_orders: f64,
    /// Spans that were received.
    spans: u64,
}

/// A run with telemetry and the one without that it is compared with.
#[derive(Clone, Debug, Serialize)]
struct Pair {
    with: Measured,
    without: Measured,
}

/// Measures, and prints what was measured. The exit code is 0 when the median ratio is as wanted, else 1.
///
/// # Errors
/// When the platform cannot be started, or an order is lost.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let bench =
        Bench { orderly: std::env::current_exe()?, data_dir: std::path::absolute(&args.work_dir)?, args };
    if bench.orderly.components().any(|part| part.as_os_str() == "debug") {
        output::note("warning: this is a debug build, its figures say nothing");
    }
    let (stop, hurry) = signals::watch()?;
    let measured = hurry.run_until_cancelled(bench.measure(&stop)).await;
    let measured = measured.unwrap_or_else(|| Err(anyhow!("interrupted twice")));
    let cleaned = bench.orderly(&["clean"]).await;
    let pairs = measured?;
    cleaned?;
    let ratio =
        median(pairs.iter().map(|pair| pair.with.confirmed_per_second / pair.without.confirmed_per_second));
    let mut stdout = io::stdout().lock();
    if bench.args.json {
        let report =
            serde_json::json!({ "pairs": pairs, "median_with_over_without": ratio, "wanted": WANTED });
        writeln!(stdout, "{report}")?;
    } else {
        let format = if bench.args.markdown { Format::Markdown } else { Format::Text };
        write!(stdout, "{}", print(&pairs, ratio, format))?;
    }
    Ok(if ratio >= WANTED { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Bench {
    orderly: PathBuf,
    data_dir: PathBuf,
    args: Args,
}

impl Bench {
    async fn measure(&self, stop: &CancellationToken) -> anyhow::Result<Vec<Pair>> {
        let sink = Sink::start().await?;
        // The first run warms caches and catalogue, and does not count.
        self.one(None, &sink, stop).await.context("warm-up")?;
        let mut pairs = Vec::new();
        for number in 1..=self.args.pairs {
            output::note(format!("pair {number} of {}", self.args.pairs));
            // What grows from run to run is as often before as after.
            let pair = if number % 2 == 0 {
                let with = self.one(Some(sink.endpoint()), &sink, stop).await?;
                Pair { with, without: self.one(None, &sink, stop).await? }
            } else {
                let without = self.one(None, &sink, stop).await?;
                Pair { with: self.one(Some(sink.endpoint()), &sink, stop).await?, without }
            };
            pairs.push(pair);
        }
        Ok(pairs)
    }

    /// Starts the platform, loads it, and stops it, early on a signal too; traces go to `collector`, or nowhere.
    async fn one(
        &self,
        collector: Option<String>,
        sink: &Sink,
        stop: &CancellationToken,
    ) -> anyhow::Result<Measured> {
        let mut up = self.command(&["up", "--detach"]);
        up.args(free_flags());
        if let Some(collector) = collector {
            up.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
        }
        succeed(up, stop).await?;
        let before = sink.spans();
        let data_dir = DataDir::from(self.data_dir.as_path());
        let (platform, options) = (Platform::load(&data_dir)?, self.options());
        let load = load::measure(&platform, &options, CancellationToken::new());
        let report = stop.run_until_cancelled(load).await;
        self.orderly(&["down"]).await?;
        Measured::of(&report.context("interrupted")??, sink.spans() - before)
    }

    fn options(&self) -> Options {
        Options {
            model: Model { rate: None, concurrency: Some(self.args.concurrency) },
            duration: self.args.duration,
            decline_ratio: 0.0,
            out_of_stock_ratio: 0.0,
            cancel_ratio: 0.0,
            seed: Some(1),
            customers: 1000,
            target: None,
            connections: 4,
            max_in_flight: 2000,
            call_deadline: Duration::from_secs(5),
            give_up_after: Duration::from_secs(60),
            settle: Duration::from_secs(120),
            watch: 0,
        }
    }

    async fn orderly(&self, args: &[&str]) -> anyhow::Result<()> {
        succeed(self.command(args), &CancellationToken::new()).await
    }

    /// Without the tracing that this process may have been started with.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.orderly);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
            command.env_remove(name);
        }
        command.args(args).arg("--data-dir").arg(&self.data_dir).stdin(Stdio::null());
        command
    }
}

impl Measured {
    fn of(report: &Report, spans: u64) -> anyhow::Result<Self> {
        ensure!(report.passed, "a run failed: {report}");
        let finals = report.finals.as_ref().context("orders were followed")?;
        let cpu: f64 = report.processes.iter().filter_map(|process| process.cpu_seconds).sum();
        Ok(Self {
            confirmed_per_second: finals.confirmed_per_second,
            cpu_seconds_per_1000_orders: cpu / report.orders.accepted as f64 * 1000.0,
            spans,
        })
    }
}

/// Runs a command to its end. What it has begun it has to undo itself: `stop` becomes a SIGTERM to it, whose end is
/// waited for.
async fn succeed(mut command: Command, stop: &CancellationToken) -> anyhow::Result<()> {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let pid = child.id().context("the command has a pid")?;
    let mut output = std::pin::pin!(child.wait_with_output());
    let output = tokio::select! {
        output = &mut output => output?,
        () = stop.cancelled() => {
            // It may have ended in the meantime.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
            output.await?;
            bail!("interrupted");
        }
    };
    ensure!(
        output.status.success(),
        "{:?} ended with {}:\n{}",
        command.as_std().get_args().collect::<Vec<_>>(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The one in the middle, or between the two there.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

fn print(pairs: &[Pair], ratio: f64, format: Format) -> String {
    let mut table = Table::new(
        "Telemetry: confirmed orders a second, default sampling beside none",
        &["pair", "with, orders/s", "without", "with/without", "CPU s/1,000 orders with", "without", "spans"],
    );
    for (number, Pair { with, without }) in pairs.iter().enumerate() {
        table.row([
            (number + 1).to_string(),
            format!("{:.1}", with.confirmed_per_second),
            format!("{:.1}", without.confirmed_per_second),
            format!("{:.3}", with.confirmed_per_second / without.confirmed_per_second),
            format!("{:.2}", with.cpu_seconds_per_1000_orders),
            format!("{:.2}", without.cpu_seconds_per_1000_orders),
            thousands(with.spans as f64),
        ]);
    }
    let cpu = |of: fn(&Pair) -> f64| median(pairs.iter().map(of));
    let mut text = table.print(format);
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "median with/without: {ratio:.3}, wanted at least {WANTED}; CPU s per 1,000 orders: {:.2} with, {:.2} without",
        cpu(|pair| pair.with.cpu_seconds_per_1000_orders),
        cpu(|pair| pair.without.cpu_seconds_per_1000_orders),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert!(median(std::iter::empty()).is_nan());
    }
}

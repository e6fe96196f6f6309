//! `orderly load`: places orders, remembers each acknowledged one for `verify`, and measures how long they take.
//!
//! With `--rate` arrivals follow a fixed schedule and every latency counts from the intended start, whether or not the
//! platform kept up. With `--concurrency` each caller waits for its answer before it places the next order.

mod acked;
mod client;
mod hops;
mod processes;
mod report;
mod run;
mod schedule;
mod settle;
mod tally;
mod traffic;
mod watch;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

pub use self::{
    hops::Hops,
    processes::Cost,
    report::{Cancels, Final, Latency, Orders, Report},
    run::measure,
    watch::{MissedOrder, Watched},
};
use crate::platform::{DataDir, Flags, Platform};

/// Arguments of `orderly load`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    options: Options,
    /// Put the figures on stdout as one JSON object
    #[arg(long)]
    json: bool,
}

/// What to place, how fast, and how patiently.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How orders arrive.
    #[command(flatten)]
    pub model: Model,
    /// How long orders are placed
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Share of orders whose payment is declined, 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = ratio)]
    pub decline_ratio: f64,
    /// Share of orders for a product that is sold out, 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = ratio)]
    pub out_of_stock_ratio: f64,
    /// Share of orders that are cancelled within half a second of their acknowledgement, 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = ratio)]
    pub cancel_ratio: f64,
    /// Orders of the same seed are the same but for their ids; random when not given
    #[arg(long)]
    pub seed: Option<u64>,
    /// Orders come from this many customers
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub customers: u32,
    /// gRPC address of the order service, when it is not the platform's
    #[arg(long, value_name = "URL")]
    pub target: Option<String>,
    /// Connections to the order service
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: u16,
    /// Most unanswered orders; arrivals beyond wait, and their waiting counts
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_in_flight: u32,
    /// Longest wait for one answer
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub call_deadline: Duration,
    /// After `UNAVAILABLE` or `DEADLINE_EXCEEDED` the same order is placed, or cancelled, again for this long
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub give_up_after: Duration,
    /// Longest wait for the last acknowledged orders to reach their final status; 0s does not follow them
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub settle: Duration,
    /// Most orders that are watched at a time; an order is watched, from its acknowledgement to its end, if there is
    /// place for it, and what its watcher was told is compared with the database
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub watch: u32,
}

/// How orders arrive: exactly one of the two.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Model {
    /// Orders a second, on a fixed schedule
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,
    /// Callers that each wait for their answer before they place the next order
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: Option<u32>,
}

/// Runs the load until it ends, or Ctrl-C ends it early (twice: at once), and prints what was measured. The exit code is 0 when every
/// order was acknowledged, every acknowledged order reached its final status, and watchers missed nothing, else 1.
///
/// # Errors
/// When there is no platform, its database does not answer, or the record of the run cannot be written.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let platform = Platform::find(&args.data_dir, &args.flags)?;
    let (stop, abandon) = (CancellationToken::new(), CancellationToken::new());
    tokio::spawn({
        let (stop, abandon) = (stop.clone(), abandon.clone());
        async move {
            for token in [stop, abandon] {
                if tokio::signal::ctrl_c().await.is_ok() {
                    token.cancel();
                }
            }
        }
    });
    let Some(report) = abandon.run_until_cancelled(measure(&platform, &args.options, stop)).await else {
        anyhow::bail!(
            "interrupted twice; the orders acknowledged so far are in {}",
            platform.acked_dir().display()
        );
    };
    let report = report?;
    let mut stdout = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut stdout, &report)?;
        writeln!(stdout)?;
    } else {
        write!(stdout, "{report}")?;
    }
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err("not between 0 and 1".to_owned()) }
}

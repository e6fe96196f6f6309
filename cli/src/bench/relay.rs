//! `orderly bench relay`: drain, live latency and writer cost of the outbox and its relay, beside a raw Kafka producer
//! and Debezium. One run, one machine, a PostgreSQL and a Kafka of its own; nothing stays but what Maven installed.

mod conditions;
mod debezium;
mod drain;
mod live;
mod meter;
mod outbox;
mod publisher;
mod ratio;
mod raw;
mod report;
mod snapshot;
mod writers;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};

use self::{
    conditions::Conditions,
    publisher::Publisher,
    report::{Pass, Report},
};
use super::{broker, record, servers, servers::Servers, table, table::Format};
use crate::output;

/// Arguments of `orderly bench relay`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Rows of the backlog that is drained
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1000..=20_000_000))]
    rows: u64,
    /// Rows of the backlog that were written in one transaction
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    transaction_rows: u64,
    /// How long each live rate and each kind of writer is measured, after 3 s to warm up
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Connections that write, each with one transaction at a time, when the cost of writers is measured
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=200))]
    writers: u32,
    /// What the relay is measured beside
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Publisher::PEERS)]
    peer: Vec<Publisher>,
    /// What is measured
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::ALL)]
    only: Vec<Part>,
    /// Measure all again while another session holds a snapshot open for this long, 2m when no time is given
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "2m", value_parser = humantime::parse_duration)]
    snapshot_held: Option<Duration>,
    /// Give the relay's events all the headers of the platform's events; without, they carry their id alone, as
    /// Debezium's do
    #[arg(long)]
    cloud_events: bool,
    /// Folder for the servers' data, deleted at the end, and for Debezium, kept for the next run
    #[arg(long, value_name = "PATH", default_value = "target/bench")]
    work_dir: PathBuf,
    /// Folder of the built programs, when it is not that of this one
    #[arg(long, value_name = "PATH")]
    bin_dir: Option<PathBuf>,
    /// Put the figures on stdout as one JSON object
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Put the figures on stdout as the tables of docs/BENCHMARKS.md
    #[arg(long)]
    markdown: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// How fast a backlog is published
    Drain,
    /// How long an event takes from its commit to a consumer, at several rates
    Live,
    /// What the append costs those who write
    Writers,
}

impl Part {
    const ALL: [Self; 3] = [Self::Drain, Self::Live, Self::Writers];
}

/// Measures, and prints what was measured. The exit code is 1 when an event was lost or overtaken, whatever the speed.
///
/// # Errors
/// When a server or a peer cannot be installed or started, or something does not come to its end in time.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut servers = None;
    let measured = tokio::select! {
        measured = Box::pin(measure(&args, &mut servers)) => measured,
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
    };
    if let Some(servers) = servers {
        servers.stop().await?;
    }
    let report = measured?;
    let mut stdout = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut stdout, &report)?;
        writeln!(stdout)?;
    } else {
        let format = if args.markdown { Format::Markdown } else { Format::Text };
        write!(stdout, "{}", report.print(format))?;
    }
    Ok(if report.sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(args: &Args, running: &mut Option<Servers>) -> anyhow::Result<Report> {
    let bin_dir = match &args.bin_dir {
        Some(folder) => folder.clone(),
        None => std::env::current_exe()?.parent().map(PathBuf::from).unwrap_or_default(),
    };
    let relay = std::path::absolute(bin_dir.join("outbox-relay"))?;
    if !relay.is_file() {
        bail!("{} is missing: build it with `cargo build --release --workspace`", relay.display());
    }
    if relay.components().any(|part| part.as_os_str() == "debug") {
        output::note("warning: this relay is a debug build, its figures say nothing");
    }
    let servers = running.insert(Servers::prepare(&args.work_dir, relay)?);
    let publishes = args.only.iter().any(|part| *part != Part::Writers);
    if publishes && args.peer.iter().any(|peer| peer.profile().is_some()) {
        debezium::install(&servers.debezium()).await?;
    }
    servers.start().await?;
    if publishes {
        raw::warm_up(servers).await?;
    }
    let conditions = Conditions::read(servers, args).await?;
    let mut passes = vec![pass(args, servers, None).await?];
    if let Some(held) = args.snapshot_held {
        passes.push(pass(args, servers, Some(held)).await?);
    }
    Ok(Report::new(conditions, passes))
}

async fn pass(args: &Args, servers: &Servers, held: Option<Duration>) -> anyhow::Result<Pass> {
    let mut pass = Pass { snapshot_held: held.is_some(), ..Pass::default() };
    if held.is_some() {
        output::note("all again, while another session holds a snapshot");
    }
    for part in Part::ALL.into_iter().filter(|part| args.only.contains(part)) {
        match part {
            Part::Drain => {
                for publisher in publishers(args) {
                    pass.drain.push(match publisher {
                        // A producer has nothing to do with snapshots.
                        Publisher::Raw if held.is_some() => continue,
                        Publisher::Raw => raw::measure(servers, args.rows).await?,
                        _ => drain::measure(servers, publisher, args, held).await?,
                    });
                }
            }
            Part::Live => {
                if held.is_none() {
                    live::warm_up(servers, args).await?;
                }
                for publisher in publishers(args).filter(|publisher| publisher.is_live()) {
                    pass.live.extend(live::measure(servers, publisher, args, held).await?);
                }
            }
            Part::Writers => pass.writers = writers::measure(servers, args, held).await?,
        }
    }
    Ok(pass)
}

fn publishers(args: &Args) -> impl Iterator<Item = Publisher> {
    let peers = Publisher::PEERS.into_iter().filter(|peer| args.peer.contains(peer));
    std::iter::once(Publisher::Relay).chain(peers)
}

//! `orderly status`: every process of the platform as it is now.

mod table;

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Duration};

use futures_util::future::join_all;
use serde::Serialize;

use crate::{
    output,
    platform::{
        DataDir, Platform,
        process::{Identity, Usage},
        record::{Phase, ProcessRecord, ProcessState, UpRecord},
    },
};

/// How long one process may take to say whether it is ready.
const PATIENCE: Duration = Duration::from_secs(2);

/// Arguments of `orderly status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    data_dir: DataDir,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The platform at one moment. Unknown is null.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether the supervisor runs and every process is ready.
    pub ready: bool,
    /// How far the supervisor has come.
    pub phase: Phase,
    /// The supervisor's pid; null when it is gone.
    pub supervisor_pid: Option<u32>,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Where PostgreSQL's and Kafka's data lie.
    pub directories: BTreeMap<String, PathBuf>,
    /// Every process, in the order in which they start.
    pub processes: Vec<Process>,
}

/// A process at one moment. Unknown is null.
#[derive(Debug, Serialize)]
pub struct Process {
    /// `postgres`, `kafka`, `order`, ...
    pub name: String,
    /// `running`, `backoff`, `pending`, `stopped`; `gone` when it should run and does not.
    pub state: &'static str,
    /// Whether it answers and says that it is ready.
    pub ready: bool,
    /// Its pid.
    pub pid: Option<u32>,
    /// How often it was started again after it had died.
    pub restarts: u32,
    /// How it ended the last time.
    pub last_exit: Option<String>,
    /// Seconds since it was started.
    pub uptime_seconds: Option<f64>,
    /// Resident memory, that of its descendants included.
    pub rss_bytes: Option<u64>,
    /// Processor time, that of its descendants included.
    pub cpu_seconds: Option<f64>,
    /// Where it serves.
    pub address: String,
    /// Its log.
    pub log: PathBuf,
}

/// Runs `orderly status`: success when everything is ready.
///
/// # Errors
/// When no platform was ever started in the data directory.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let report = report(&args.data_dir).await?;
    if args.json {
        output::line(serde_json::to_string_pretty(&report)?);
    } else {
        output::line(table::render(&report));
    }
    Ok(if report.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Looks at every process and asks it whether it is ready.
///
/// # Errors
/// When no platform was ever started in the data directory.
pub async fn report(data_dir: &DataDir) -> anyhow::Result<Report> {
    // For the error that says what to do when there is none.
    Platform::load(data_dir)?;
    let Some(record) = UpRecord::read(data_dir)? else { anyhow::bail!("the platform is being deleted") };
    let http = reqwest::Client::builder().no_proxy().build()?;
    let processes = join_all(record.processes.iter().map(|process| look(process, &http))).await;
    let supervisor_pid = record.supervisor.is_alive().then_some(record.supervisor.pid);
    let all_ready = !processes.is_empty() && processes.iter().all(|process| process.ready);
    Ok(Report {
        ready: supervisor_pid.is_some() && record.phase == Phase::Ready && all_ready,
        phase: record.phase,
        supervisor_pid,
        data_dir: data_dir.path().to_owned(),
        directories: record.directories,
        processes,
    })
}

async fn look(process: &ProcessRecord, http: &reqwest::Client) -> Process {
    let identity = process.identity.filter(|identity| identity.is_alive());
    let usage = identity.and_then(Identity::usage);
    Process {
        name: process.name.clone(),
        state: match process.state {
            ProcessState::Running if identity.is_none() => "gone",
            ProcessState::Running => "running",
            ProcessState::Pending => "pending",
            ProcessState::Backoff => "backoff",
            ProcessState::Stopped => "stopped",
        },
        ready: identity.is_some() && process.probe.is_ready(http, PATIENCE).await,
        pid: identity.map(|identity| identity.pid),
        restarts: process.restarts,
        last_exit: process.last_exit.clone(),
        uptime_seconds: identity.and_then(Identity::uptime).map(|uptime| uptime.as_secs_f64()),
        rss_bytes: usage.map(|usage: Usage| usage.rss_bytes),
        cpu_seconds: usage.map(|usage| usage.cpu.as_secs_f64()),
        address: process.address.clone(),
        log: process.log.clone(),
    }
}

//! `orderly down` and `orderly clean`: stop the platform of a data directory, and delete its data.

use std::{
    fs, io,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::{
    leftovers,
    lock::{self, Lock},
};
use crate::{
    output,
    platform::{
        DataDir,
        record::{ProcessState, UpRecord},
    },
};

/// How long a supervisor may take: every stage of its own stopping together, and some more.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often its progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Arguments of `orderly down`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    data_dir: DataDir,
    /// Delete the data directory as well
    #[arg(long)]
    delete_data: bool,
}

/// Arguments of `orderly clean`.
#[derive(Debug, clap::Args)]
pub struct CleanArgs {
    #[command(flatten)]
    data_dir: DataDir,
}

/// Runs `orderly down`.
///
/// # Errors
/// When something could not be stopped in time, or not be deleted.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    down(args.data_dir, args.delete_data).await
}

/// Runs `orderly clean`.
///
/// # Errors
/// As [`run`].
pub async fn clean(args: CleanArgs) -> anyhow::Result<ExitCode> {
    down(args.data_dir, true).await
}

async fn down(mut data_dir: DataDir, delete: bool) -> anyhow::Result<ExitCode> {
    data_dir.data_dir = std::path::absolute(data_dir.path())?;
    if !data_dir.path().exists() {
        output::line(format!("nothing is running: {} does not exist", data_dir.path().display()));
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        is_ours(&data_dir),
        "{} is no platform's data directory; name the right one with --data-dir",
        data_dir.path().display()
    );
    let (lock, ran) = stop(&data_dir).await?;
    if delete {
        delete_data(&data_dir)?;
    } else if !ran {
        output::line("nothing is running");
    } else {
        output::line("stopped");
    }
    drop(lock);
    Ok(ExitCode::SUCCESS)
}

/// Stops the supervisor, or what a killed one has left, and returns the lock that keeps another from starting.
async fn stop(data_dir: &DataDir) -> anyhow::Result<(Lock, bool)> {
    let deadline = Instant::now() + PATIENCE;
    let mut asked = None;
    let mut shown = Vec::new();
    let lock = loop {
        if let Some(lock) = lock::acquire(data_dir)? {
            break lock;
        }
        let record = UpRecord::read(data_dir)?.filter(|record| record.supervisor.is_alive());
        if let Some(record) = record {
            if asked != Some(record.supervisor) {
                output::line(format!("stopping (supervisor pid {})", record.supervisor.pid));
                record.supervisor.signal(Signal::SIGTERM);
                asked = Some(record.supervisor);
            }
            show_stopped(&record, &mut shown);
        }
        if Instant::now() >= deadline {
            let pid = lock::holder(data_dir).map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
            bail!(
                "the supervisor (pid {pid}) did not stop within {} s; see `orderly status`",
                PATIENCE.as_secs()
            );
        }
        sleep(LOOK_EVERY).await;
    };
    let record = UpRecord::read(data_dir)?;
    let left = record.is_some_and(|record| !leftovers::alive(&record).is_empty());
    leftovers::stop(data_dir).await?;
    Ok((lock, asked.is_some() || left))
}

fn show_stopped(record: &UpRecord, shown: &mut Vec<String>) {
    for process in &record.processes {
        if process.state == ProcessState::Stopped && !shown.contains(&process.name) {
            output::line(format!("  {} stopped", process.name));
            shown.push(process.name.clone());
        }
    }
}

/// A folder that `up` has made holds the lock file.
fn is_ours(data_dir: &DataDir) -> bool {
    data_dir.lock().is_file()
}

fn delete_data(data_dir: &DataDir) -> anyhow::Result<()> {
    let outside = UpRecord::read(data_dir)?.map(|record| record.directories).unwrap_or_default();
    let outside = outside.into_values().filter(|dir| !dir.starts_with(data_dir.path()));
    for dir in outside.chain([data_dir.path().to_owned()]) {
        remove(&dir).with_context(|| format!("could not delete {}", dir.display()))?;
        output::line(format!("deleted {}", dir.display()));
    }
    Ok(())
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

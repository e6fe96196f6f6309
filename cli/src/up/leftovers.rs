//! What a supervisor that was killed left running: found through `up.json`, stopped in the same order and with the
//! same patience as by the supervisor itself.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::parts::{STOP_ORDER, STOP_WITHIN};
use crate::{
    output,
    platform::{
        DataDir,
        process::Identity,
        record::{Phase, ProcessRecord, ProcessState, UpRecord},
    },
};

/// How often a stopping process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a killed process may take to disappear.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// The processes of the record that still run.
#[must_use]
pub fn alive(record: &UpRecord) -> Vec<(&ProcessRecord, Identity)> {
    let alive = |process: &'_ ProcessRecord| process.identity.filter(|identity| identity.is_alive());
    record.processes.iter().filter_map(|process| Some((process, alive(process)?))).collect()
}

/// Stops whatever the record's supervisor left running and writes down that nothing runs any more. The caller holds
/// the data directory's lock, so that no supervisor restarts what is being stopped.
///
/// # Errors
/// When a process is still there after SIGKILL, or the record cannot be read or written.
pub async fn stop(data_dir: &DataDir) -> anyhow::Result<()> {
    let Some(mut record) = UpRecord::read(data_dir)? else { return Ok(()) };
    let left = alive(&record);
    if !left.is_empty() {
        let names: Vec<&str> = left.iter().map(|(process, _)| process.name.as_str()).collect();
        output::line(format!("stopping what an earlier `orderly up` left running: {}", names.join(", ")));
    }
    for stage in STOP_ORDER {
        let stage = left.iter().filter(|(process, _)| stage.contains(&process.name.as_str()));
        let stage: Vec<(&str, Identity)> =
            stage.map(|(process, identity)| (process.name.as_str(), *identity)).collect();
        end(&stage).await?;
    }
    record.phase = Phase::Stopped;
    for process in &mut record.processes {
        process.state = ProcessState::Stopped;
        process.identity = None;
    }
    record.write(data_dir)
}

async fn end(stage: &[(&str, Identity)]) -> anyhow::Result<()> {
    for (name, identity) in stage {
        identity.signal(stop_signal(name));
    }
    if gone(stage, STOP_WITHIN).await {
        return Ok(());
    }
    for (_, identity) in stage {
        identity.signal_group(Signal::SIGKILL);
    }
    let killed = gone(stage, KILL_PATIENCE).await;
    anyhow::ensure!(killed, "{stage:?} did not end after SIGKILL; look at the machine's log");
    Ok(())
}

/// PostgreSQL's own choice of signals: SIGTERM waits for every client to leave, SIGINT disconnects them (fast shutdown).
pub(super) fn stop_signal(name: &str) -> Signal {
    if name == "postgres" { Signal::SIGINT } else { Signal::SIGTERM }
}

async fn gone(processes: &[(&str, Identity)], within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while processes.iter().any(|(_, identity)| identity.is_alive()) {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(LOOK_EVERY).await;
    }
    true
}

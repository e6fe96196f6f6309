//! Keeps processes alive: starts each, starts it again with growing delays when it dies, and stops them in order.
//!
//! Every change is written to `up.json` at once, so that `status` can show it and so that the next `up` or `down`
//! finds the processes of a supervisor that was killed.

pub mod backoff;
pub mod log;
pub mod program;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    output,
    platform::{
        DataDir,
        process::Identity,
        record::{Phase, Probe, ProcessRecord, ProcessState, UpRecord},
    },
};
use backoff::Backoff;
use program::{Program, Running};

/// How often a log's size is looked at.
const LOG_CHECK: Duration = Duration::from_secs(10);
/// How often [`Supervisor::ready`] asks.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// How long one answer to a probe may take.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
/// How long a killed process may take to disappear.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// The exit code of a program that finds its configuration wrong: starting it again cannot help.
pub const MISCONFIGURED: i32 = 64;

/// A process to keep alive.
#[derive(Debug)]
pub struct Spec {
    /// Its name in `status`, logs and messages.
    pub name: &'static str,
    /// How to start it.
    pub program: Program,
    /// Where it serves.
    pub address: String,
    /// How to ask whether it is ready.
    pub probe: Probe,
    /// Its log.
    pub log: PathBuf,
    /// The signal that stops it in good order.
    pub stop: Signal,
    /// How long it may take to stop before it is killed.
    pub stop_within: Duration,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// In words: `exit code 3`, `signal 9 (SIGKILL)`.
    pub text: String,
    /// The exit code, when it ended by itself.
    pub code: Option<i32>,
}

/// The kept processes, in the order in which they were started.
#[derive(Debug)]
pub struct Supervisor {
    board: Board,
    http: reqwest::Client,
    hurry: CancellationToken,
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// The record on disk and in memory.
#[derive(Clone, Debug)]
struct Board {
    data_dir: DataDir,
    record: Arc<Mutex<UpRecord>>,
}

impl Supervisor {
    /// A supervisor of nothing yet. Once `hurry` is cancelled, processes that are being stopped are killed.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn new(data_dir: DataDir, record: UpRecord, hurry: CancellationToken) -> anyhow::Result<Self> {
        record.write(&data_dir)?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let board = Board { data_dir, record: Arc::new(Mutex::new(record)) };
        Ok(Self { board, http, hurry, kept: Vec::new() })
    }

    /// Starts a process and keeps it alive until it is stopped.
    pub fn keep(&mut self, spec: Spec) {
        self.board.update(|record| {
            record.processes.push(ProcessRecord {
                name: spec.name.to_owned(),
                state: ProcessState::Pending,
                identity: None,
                restarts: 0,
                last_exit: None,
                address: spec.address.clone(),
                probe: spec.probe.clone(),
                log: spec.log.clone(),
            });
        });
        let (name, stop) = (spec.name, CancellationToken::new());
        let task = tokio::spawn(keep(spec, self.board.clone(), stop.clone(), self.hurry.clone()));
        self.kept.push(Kept { name, stop, task });
    }

    /// Waits until a process that is kept runs and is ready.
    ///
    /// # Errors
    /// When it is not ready in time or finds its configuration wrong; the error quotes the end of its log.
    pub async fn ready(&self, name: &str, within: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let process = self.process(name);
            let running = process.state == ProcessState::Running;
            if running && process.probe.is_ready(&self.http, PROBE_PATIENCE).await {
                return Ok(());
            }
            let misconfigured =
                process.last_exit.as_deref() == Some(Exit::from_code(MISCONFIGURED).text.as_str());
            if misconfigured || Instant::now() >= deadline {
                let what = match &process.last_exit {
                    Some(exit) => format!("ended with {exit}"),
                    None => format!("was not ready after {} s", within.as_secs()),
                };
                let (log, tail) = (process.log.display(), log::tail(&process.log, 10));
                anyhow::bail!("{name} {what}; the end of {log}:\n{tail}");
            }
            sleep(PROBE_EVERY).await;
        }
    }

    /// Stops the named processes at once and waits for them; the others stay.
    pub async fn stop(&mut self, names: &[&str]) {
        let (stopping, staying) = self.kept.drain(..).partition(|kept| names.contains(&kept.name));
        self.kept = staying;
        let stopping: Vec<Kept> = stopping;
        for kept in &stopping {
            kept.stop.cancel();
        }
        for kept in stopping {
            if let Err(err) = kept.task.await {
                output::note(format!("{}: its keeper failed: {err}", kept.name));
            }
        }
    }

    /// Stops whatever is left, the last started first.
    pub async fn stop_all(&mut self) {
        while let Some(name) = self.kept.last().map(|kept| kept.name) {
            self.stop(&[name]).await;
        }
    }

    /// Writes down how far the platform has come.
    pub fn phase(&self, phase: Phase) {
        self.board.update(|record| record.phase = phase);
    }

    fn process(&self, name: &str) -> ProcessRecord {
        let record = self.board.lock();
        let found = record.processes.iter().find(|process| process.name == name);
        found.cloned().unwrap_or_else(|| unreachable!("{name} is not kept"))
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, UpRecord> {
        // A panic elsewhere leaves the record whole: every change is a plain assignment.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut UpRecord)) {
        let mut record = self.lock();
        change(&mut record);
        // Supervision goes on without the file: a full disk must not take the platform down.
        if let Err(err) = record.write(&self.data_dir) {
            output::error(&err);
        }
    }

    fn process(&self, name: &str, change: impl FnOnce(&mut ProcessRecord)) {
        self.update(|record| {
            if let Some(process) = record.processes.iter_mut().find(|process| process.name == name) {
                change(process);
            }
        });
    }
}

async fn keep(spec: Spec, board: Board, stop: CancellationToken, hurry: CancellationToken) {
    let mut backoff = Backoff::default();
    let mut first = true;
    while !stop.is_cancelled() {
        let started = Instant::now();
        let exit = match spec.program.start(&spec.log, first) {
            Ok(mut running) => {
                board.process(spec.name, |process| {
                    process.state = ProcessState::Running;
                    process.identity = Some(running.identity());
                });
                tokio::select! {
                    exit = exited(&mut running, &spec.log) => exit,
                    () = stop.cancelled() => {
                        let exit = end(&spec, &mut running, &hurry).await;
                        board.process(spec.name, |process| process.last_exit = Some(exit.text));
                        break;
                    }
                }
            }
            Err(err) => Exit { text: format!("could not start: {err:#}"), code: None },
        };
        first = false;
        let delay = backoff.after(started.elapsed());
        let pid = board.lock().processes.iter().find(|process| process.name == spec.name).and_then(pid);
        let who = pid.map_or_else(|| spec.name.to_owned(), |pid| format!("{} (pid {pid})", spec.name));
        output::line(format!("{who} ended: {}; starting again in {} ms", exit.text, delay.as_millis()));
        board.process(spec.name, |process| {
            process.state = ProcessState::Backoff;
            process.identity = None;
            process.restarts += 1;
            process.last_exit = Some(exit.text);
        });
        tokio::select! { () = sleep(delay) => {}, () = stop.cancelled() => {} }
    }
    board.process(spec.name, |process| {
        process.state = ProcessState::Stopped;
        process.identity = None;
    });
}

fn pid(process: &ProcessRecord) -> Option<u32> {
    process.identity.map(|identity| identity.pid)
}

/// Waits for the end of a process and keeps its log small meanwhile.
async fn exited(running: &mut Running, log: &std::path::Path) -> Exit {
    let mut check = interval(LOG_CHECK);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            exit = running.exited() => return exit,
            _ = check.tick() => log::bound(log),
        }
    }
}

/// Stops a process in good order, or kills it when that takes too long or the user is in a hurry.
async fn end(spec: &Spec, running: &mut Running, hurry: &CancellationToken) -> Exit {
    let identity: Identity = running.identity();
    identity.signal(spec.stop);
    let orderly = tokio::select! {
        exit = timeout(spec.stop_within, running.exited()) => exit.ok(),
        () = hurry.cancelled() => None,
    };
    if let Some(exit) = orderly {
        return exit;
    }
    output::line(format!("{} (pid {}) did not stop in time: killing it", spec.name, identity.pid));
    identity.signal_group(Signal::SIGKILL);
    let killed = timeout(KILL_PATIENCE, running.exited()).await;
    killed.unwrap_or_else(|_| Exit { text: "not gone after SIGKILL".to_owned(), code: None })
}

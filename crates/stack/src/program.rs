//! Programs that run to their end: `initdb`, Maven, Kafka's formatter. And the logs that programs leave.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::{Error, Result};

/// How much of a log is shown in an error.
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 12;

/// Runs a program to its end within a time; its output is in the error when it fails. Nothing of it stays when the
/// future is dropped.
pub(crate) async fn run(name: &'static str, mut command: Command, within: Duration) -> Result<()> {
    let log = tempfile::NamedTempFile::new().map_err(Error::io("make a temporary file"))?;
    let output = open_log(log.path())?;
    let again = output.try_clone().map_err(Error::io(format!("start {name}")))?;
    command.stdin(Stdio::null()).stdout(output).stderr(again).process_group(0);
    let mut group = Group::spawn(name, command)?;
    match timeout(within, group.child.wait()).await {
        Ok(status) => {
            let status = status.map_err(Error::io(format!("wait for {name}")))?;
            if status.success() { Ok(()) } else { Err(ended(name, status, log.path())) }
        }
        Err(_) => Err(Error::TooSlow { program: name, within, tail: tail(log.path()) }),
    }
}

/// A child that leads a process group. Dropping it kills the group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) child: Child,
}

impl Group {
    /// Starts a command that was given a process group of its own.
    pub(crate) fn spawn(name: &str, mut command: Command) -> Result<Self> {
        let child = command.spawn().map_err(Error::io(format!("start {name}")))?;
        Ok(Self { child })
    }

    /// Sends a signal to the leader, unless it has been waited for: its pid may be another's by then.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = nix::sys::signal::kill(pid, signal);
        }
    }

    /// Kills the group, unless its leader has been waited for.
    pub(crate) fn kill(&self) {
        if let Some(pid) = self.pid() {
            let _ = killpg(pid, Signal::SIGKILL);
        }
    }

    fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn ended(program: &'static str, status: ExitStatus, log: &Path) -> Error {
    Error::Ended { program, status: status.to_string(), tail: tail(log) }
}

/// Opens for appending: a log survives restarts, and truncation by whoever keeps it small.
pub(crate) fn open_log(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::io(format!("make {}", folder.display())))?;
    }
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(Error::io(format!("open {}", path.display())))
}

/// The last lines of a log, each indented.
fn tail(log: &Path) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        std::io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    if last.is_empty() {
        return "  (empty)".to_owned();
    }
    last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

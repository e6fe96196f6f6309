//! How to start a server, and the signal that stops it in good order.

use std::{ffi::OsString, path::PathBuf, process::Stdio};

use nix::sys::signal::Signal;
use tokio::process::Command;

/// How to start a server whose data is ready. It may be started again and again, also after a crash.
#[derive(Clone, Debug)]
pub struct Launch {
    /// What it is, for messages: `PostgreSQL`, `Kafka`.
    pub name: &'static str,
    /// The executable.
    pub executable: PathBuf,
    /// Its arguments, without secrets: everyone on the machine can read them.
    pub args: Vec<OsString>,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// User and group id to run as, where that is not the caller's.
    pub user: Option<(u32, u32)>,
    /// The folder to run in.
    pub directory: PathBuf,
    /// The signal that stops it in good order.
    pub stop_signal: StopSignal,
}

/// A signal that stops a server in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    /// PostgreSQL's fast shutdown: it disconnects its clients. SIGTERM would wait for them to leave.
    Interrupt,
    /// Kafka's controlled shutdown.
    Terminate,
}

impl Launch {
    /// The command, without input and in a process group of its own; the caller says where its output goes.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.directory).stdin(Stdio::null()).process_group(0);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl From<StopSignal> for Signal {
    fn from(signal: StopSignal) -> Self {
        match signal {
            StopSignal::Interrupt => Self::SIGINT,
            StopSignal::Terminate => Self::SIGTERM,
        }
    }
}

//! The programs that a supervisor starts, and what it holds of one that runs.

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tokio::process::{Child, Command};

use super::{Exit, log};
use crate::platform::process::Identity;

/// Something that can be started.
#[derive(Debug)]
pub enum Program {
    /// A command of its own process group, with its output in its log.
    Command {
        /// The executable.
        executable: PathBuf,
        /// Its arguments: no secrets, everyone on the machine can read them.
        args: Vec<OsString>,
        /// Added to this process's environment, from which every `ORDERLY_` variable is removed first.
        env: Vec<(String, String)>,
    },
    /// PostgreSQL or Kafka, whose data is ready.
    Server(stack::Launch),
}

/// A process that was started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    identity: Identity,
}

impl Program {
    /// Starts it. `first` puts the log of an earlier platform aside.
    pub(super) fn start(&self, log: &Path, first: bool) -> anyhow::Result<Running> {
        match self {
            Self::Command { executable, args, env } => {
                let output = log::open(log, first)?;
                let mut command = command(executable, env);
                command.args(args).stdout(output.try_clone()?).stderr(output).process_group(0);
                let child =
                    command.spawn().with_context(|| format!("could not run {}", executable.display()))?;
                Running::new(child)
            }
            Self::Server(launch) => {
                let output = log::open(log, first)?;
                let mut command = launch.command();
                without_own_variables(&mut command).stdout(output.try_clone()?).stderr(output);
                let executable = launch.executable.display();
                Running::new(command.spawn().with_context(|| format!("could not run {executable}"))?)
            }
        }
    }
}

impl Running {
    fn new(child: Child) -> anyhow::Result<Self> {
        let pid = child.id().context("it ended at once")?;
        // A zombie has no identity, but its pid is still ours until it is waited for.
        let identity = Identity::of(pid).unwrap_or(Identity { pid, start_time: 0 });
        Ok(Self { child, identity })
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    pub(super) async fn exited(&mut self) -> Exit {
        match self.child.wait().await {
            Ok(status) => Exit::from(status),
            Err(err) => Exit { text: format!("unknown: {err}"), code: None },
        }
    }
}

/// A command without input and without the `ORDERLY_` variables meant for `orderly` itself.
pub(crate) fn command(executable: &Path, env: &[(String, String)]) -> Command {
    let mut command = Command::new(executable);
    without_own_variables(&mut command);
    command.envs(env.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
    command
}

fn without_own_variables(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ORDERLY_") {
            command.env_remove(name);
        }
    }
    command
}

impl Exit {
    pub(super) fn from_code(code: i32) -> Self {
        Self { text: format!("exit code {code}"), code: Some(code) }
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        if let Some(code) = status.code() {
            return Self::from_code(code);
        }
        let number = status.signal().unwrap_or_default();
        let name = Signal::try_from(number).map_or("unknown", Signal::as_str);
        Self { text: format!("signal {number} ({name})"), code: None }
    }
}

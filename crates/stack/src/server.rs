//! A running server: what a test starts, stops and kills.

use std::{path::Path, path::PathBuf, time::Duration};

use nix::sys::signal::Signal;
use tokio::time::timeout;

use crate::{
    Error, Launch, Result,
    program::{Group, ended, open_log},
};

/// How long a server may take to stop in good order before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A running server in a process group of its own, so that a terminal's Ctrl-C does not reach it. Dropping it kills
/// the group.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    group: Group,
    pid: u32,
    stop: Signal,
    log: PathBuf,
}

impl Server {
    /// Starts a server whose output is appended to the log. It is not ready yet: see [`Server::until`].
    ///
    /// # Errors
    /// When its log or its executable cannot be opened.
    pub fn start(launch: &Launch, log: &Path) -> Result<Self> {
        let output = open_log(log)?;
        let mut command = launch.command();
        command.stdout(output.try_clone().map_err(Error::io("open the log twice"))?).stderr(output);
        let group = Group::spawn(launch.name, command)?;
        let pid = group.child.id().unwrap_or_default();
        Ok(Self { name: launch.name, group, pid, stop: launch.stop_signal.into(), log: log.to_owned() })
    }

    /// Its process id, also after it has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for what tells that it is ready.
    ///
    /// # Errors
    /// The future's own, and [`Error::Ended`] when the server ends first.
    pub async fn until(&mut self, ready: impl Future<Output = Result<()>>) -> Result<()> {
        tokio::select! {
            ready = ready => ready,
            status = self.group.child.wait() => {
                let status = status.map_err(Error::io(format!("wait for {}", self.name)))?;
                Err(ended(self.name, status, &self.log))
            }
        }
    }

    /// Stops it in good order, or kills it after 30 s, and waits for its end.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn stop(mut self) -> Result<()> {
        self.group.signal(self.stop);
        if timeout(STOP_WITHIN, self.group.child.wait()).await.is_err() {
            self.group.kill();
        }
        self.wait().await
    }

    /// Kills it as `kill -9` does, and waits for its end.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        self.group.kill();
        self.wait().await
    }

    async fn wait(&mut self) -> Result<()> {
        let ended = self.group.child.wait().await;
        ended.map(drop).map_err(Error::io(format!("wait for {}", self.name)))
    }
}

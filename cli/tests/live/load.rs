//! `orderly load` beside a test, for as long as the test needs it: it never has to be guessed how long that is.

use std::{future::Future, process::Output};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::until;
use tokio::task::JoinHandle;

use crate::home::{Home, WITHIN};

/// Orders that are placed until [`Load::stop`].
pub struct Load<'a> {
    home: &'a Home,
    pid: Pid,
    ended: JoinHandle<std::io::Result<Output>>,
}

impl<'a> Load<'a> {
    pub fn start(home: &'a Home, args: &[&str]) -> anyhow::Result<Self> {
        let mut load = home.orderly("load");
        load.args(["--duration", "1h", "--json"]).args(args).kill_on_drop(true);
        let child = load.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn()?;
        let pid = Pid::from_raw(child.id().context("it runs")?.cast_signed());
        Ok(Self { home, pid, ended: tokio::spawn(child.wait_with_output()) })
    }

    /// Does something while orders are placed; fails at once where they are placed no more.
    pub async fn during<T>(&mut self, what: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::select! {
            done = what => done,
            ended = &mut self.ended => {
                let Output { status, stdout, stderr } = ended??;
                let said = [stdout, stderr].concat();
                bail!("`load` ended with {status}:\n{}", String::from_utf8_lossy(&said))
            }
        }
    }

    /// Waits until so many more orders are acknowledged.
    pub async fn accepted(&mut self, more: usize) -> anyhow::Result<()> {
        let home = self.home;
        let before = home.acknowledged()?;
        let accepted = until("orders are accepted", WITHIN, || async {
            Ok((home.acknowledged()? > before + more).then_some(()))
        });
        self.during(accepted).await
    }

    /// Ends the placing, and says what has become of every order.
    pub async fn stop(self) -> anyhow::Result<serde_json::Value> {
        kill(self.pid, Signal::SIGINT)?;
        let Output { status, stdout, stderr } = tokio::time::timeout(2 * WITHIN, self.ended).await???;
        if !status.success() {
            let said = [stdout, stderr].concat();
            bail!("`load` ended with {status}:\n{}", String::from_utf8_lossy(&said));
        }
        Ok(serde_json::from_slice(&stdout)?)
    }
}

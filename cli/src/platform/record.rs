//! `<data>/up.json`: what the supervisor of a platform writes down whenever it changes, for every other command and
//! for its own successor.

use std::{collections::BTreeMap, fs, io, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{DataDir, Endpoints, process::Identity};

/// What `up.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpRecord {
    /// The `orderly up` that wrote it.
    pub supervisor: Identity,
    /// How far it has come.
    pub phase: Phase,
    /// Where everything listens.
    pub endpoints: Endpoints,
    /// Folders outside the data directory or worth naming, by what they hold.
    pub directories: BTreeMap<String, PathBuf>,
    /// Every process, in the order in which they start.
    pub processes: Vec<ProcessRecord>,
}

/// How far a supervisor has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not everything has been ready yet.
    Starting,
    /// Everything has been ready once.
    Ready,
    /// On its way down.
    Stopping,
    /// Everything was stopped.
    Stopped,
}

/// A supervised process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// `postgres`, `kafka`, `order`, ...
    pub name: String,
    /// What the supervisor last did with it.
    pub state: ProcessState,
    /// The process, when one was started.
    pub identity: Option<Identity>,
    /// How often it was started again after it had died.
    pub restarts: u32,
    /// How it ended the last time: `exit code 3`, `signal 9 (SIGKILL)`.
    pub last_exit: Option<String>,
    /// Where it serves.
    pub address: String,
    /// How its readiness is asked.
    pub probe: Probe,
    /// Its log.
    pub log: PathBuf,
}

/// What the supervisor last did with a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessState {
    /// Not started yet.
    Pending,
    /// Started.
    Running,
    /// Died, waits to be started again.
    Backoff,
    /// Stopped on purpose.
    Stopped,
}

/// How to ask a process whether it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// 200 from `/readyz` of this admin address.
    Readyz(SocketAddr),
    /// Success from this URL.
    Http(String),
    /// A connection to this address.
    Connect(String),
}

impl UpRecord {
    /// Reads the record; `None` when no platform was started in this data directory.
    ///
    /// # Errors
    /// When the file cannot be read or was written by another version.
    pub fn read(data_dir: &DataDir) -> anyhow::Result<Option<Self>> {
        let path = data_dir.record();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(err).with_context(|| format!("could not read {}", path.display())),
        };
        let record = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a platform's state; remove it", path.display()))?;
        Ok(Some(record))
    }

    /// Replaces the record in one step, so that a reader sees the old one or the new one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, data_dir: &DataDir) -> anyhow::Result<()> {
        let (path, draft) = (data_dir.record(), data_dir.record().with_extension("json.new"));
        let write = || -> anyhow::Result<()> {
            fs::write(&draft, serde_json::to_vec_pretty(self)?)?;
            fs::rename(&draft, &path)?;
            Ok(())
        };
        write().with_context(|| format!("could not write {}", path.display()))
    }
}

impl Probe {
    /// Whether the process answers and says that it is ready; an answer takes at most `patience`.
    pub async fn is_ready(&self, http: &reqwest::Client, patience: Duration) -> bool {
        let answer = async {
            let succeeds = async |url: String| {
                http.get(url).send().await.is_ok_and(|response| response.status().is_success())
            };
            match self {
                Self::Readyz(address) => succeeds(format!("http://{address}/readyz")).await,
                Self::Http(url) => succeeds(url.clone()).await,
                Self::Connect(address) => tokio::net::TcpStream::connect(address).await.is_ok(),
            }
        };
        tokio::time::timeout(patience, answer).await.unwrap_or(false)
    }
}

//! One PostgreSQL and one Kafka for every test process of this checkout.
//!
//! The first that needs them starts the program `teststack` beside it, which serves them until nobody has held its
//! socket for a while. So test processes share the servers, and nobody has to stop them.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

/// Starting both takes a few seconds, fetching Kafka once a minute or two.
const START: Duration = Duration::from_secs(300);

/// Where the shared servers are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Servers {
    /// `postgres://postgres:password@127.0.0.1:port`, of a superuser, without a database.
    pub postgres: String,
    /// `127.0.0.1:port`.
    pub kafka: String,
}

/// The shared servers, started when they are first needed.
///
/// # Errors
/// When `teststack` has not been built, or a server does not start.
pub async fn servers() -> anyhow::Result<&'static Servers> {
    static SERVERS: OnceCell<Servers> = OnceCell::const_new();
    SERVERS.get_or_try_init(|| async { tokio::task::spawn_blocking(connect).await? }).await
}

/// The folder of the binaries under test.
pub(crate) fn binaries() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().context("a program lies in a folder")?;
    // A test lies one below.
    Ok(if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder }.to_owned())
}

fn connect() -> anyhow::Result<Servers> {
    let folder = binaries()?;
    let socket = folder.join("teststack.sock");
    let deadline = Instant::now() + START;
    let mut starting: Option<Child> = None;
    loop {
        if let Ok(stream) = UnixStream::connect(&socket) {
            let mut line = String::new();
            BufReader::new(stream.try_clone()?).read_line(&mut line)?;
            if let Ok(servers) = serde_json::from_str(&line) {
                // Held until this process ends: it tells `teststack` that somebody needs the servers.
                std::mem::forget(stream);
                return Ok(servers);
            }
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "the servers did not start; see {}",
            folder.join("teststack.log").display()
        );
        // One that finds the lock held ends with 0: another process has started it, and this one waits.
        match starting.as_mut().map(Child::try_wait).transpose()?.flatten() {
            Some(status) if !status.success() => {
                anyhow::bail!("teststack ended with {status}; see {}", folder.join("teststack.log").display())
            }
            Some(_) => starting = None,
            None => {}
        }
        if starting.is_none() {
            starting = Some(spawn(&folder)?);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Starts `teststack`; a second one ends at once, because the first holds a lock.
fn spawn(folder: &Path) -> anyhow::Result<Child> {
    let program = folder.join("teststack");
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("teststack.log"))?;
    let child = Command::new(&program)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("{} does not run: `cargo build --workspace` first", program.display()))?;
    Ok(child)
}

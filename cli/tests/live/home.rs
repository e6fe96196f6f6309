//! A platform that a test starts by `orderly up`, in a folder and on ports of its own.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use cli::platform::{
    DataDir,
    process::Identity,
    record::{Phase, UpRecord},
};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use testkit::until;
use tokio::process::{Child, Command};

/// How long anything but a start may take here, on a busy machine.
pub const WITHIN: Duration = Duration::from_secs(120);
/// How long a start may take: longer than `up` itself waits for its servers to listen and to answer, for migrations and
/// for its parts (420 s), so that it is `up` that says what is missing.
pub const UP_WITHIN: Duration = Duration::from_secs(480);

/// A data directory with ports of its own.
pub struct Home {
    dir: TempDir,
    ports: Vec<String>,
}

impl Home {
    pub fn new() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("orderly-live-").tempdir()?;
        // PostgreSQL runs as its own user.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self { ports: cli::up::ports::free_flags(), dir })
    }

    pub fn data_dir(&self) -> DataDir {
        DataDir::from(self.dir.path().join("data").as_path())
    }

    pub fn orderly(&self, command: &str) -> Command {
        let mut orderly = Command::new(env!("CARGO_BIN_EXE_orderly"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ORDERLY_") && name != "ORDERLY_KAFKA_LIBS" {
                orderly.env_remove(name);
            }
        }
        let libs = Path::new(env!("CARGO_BIN_EXE_orderly")).parent().and_then(Path::parent);
        if let (Some(target), None) = (libs, std::env::var_os("ORDERLY_KAFKA_LIBS")) {
            orderly.env("ORDERLY_KAFKA_LIBS", target.join("kafka-libs"));
        }
        orderly.arg(command).arg("--data-dir").arg(self.data_dir().path()).stdin(Stdio::null());
        orderly
    }

    pub fn up(&self) -> Command {
        let mut up = self.orderly("up");
        up.args(&self.ports);
        up
    }

    pub fn record(&self) -> anyhow::Result<Option<UpRecord>> {
        UpRecord::read(&self.data_dir())
    }

    /// The platform once it is ready; fails as soon as `up` has given up.
    pub async fn ready(&self, up: &mut Child) -> anyhow::Result<UpRecord> {
        let is_ready = until("the platform is ready", UP_WITHIN, || async {
            Ok(self.record()?.filter(|record| record.phase == Phase::Ready))
        });
        tokio::select! {
            record = is_ready => record.with_context(|| self.last_words()),
            ended = up.wait() => bail!("`up` ended with {}:\n{}", ended?, self.last_words()),
        }
    }

    pub async fn when(&self, what: &str, is: impl Fn(&UpRecord) -> bool) -> anyhow::Result<UpRecord> {
        let record = until(what, WITHIN, || async { Ok(self.record()?.filter(|record| is(record))) });
        record.await.with_context(|| self.last_words())
    }

    /// What a wait in vain was about.
    fn last_words(&self) -> String {
        let Ok(Some(record)) = self.record() else { return "no record".to_owned() };
        let processes = record.processes.iter();
        let words = processes.map(|process| {
            let tail = cli::supervisor::log::tail(&process.log, 3);
            format!("{} {:?} {:?}\n{tail}", process.name, process.state, process.last_exit)
        });
        words.collect::<Vec<_>>().join("\n")
    }

    /// Orders that a caller holds an answer for.
    pub fn acknowledged(&self) -> anyhow::Result<usize> {
        let Ok(files) = fs::read_dir(self.data_dir().path().join("acked")) else { return Ok(0) };
        files.map(|file| Ok(fs::read_to_string(file?.path())?.lines().count())).sum()
    }

    /// Runs a command to its end.
    pub async fn run(&self, command: &mut Command) -> anyhow::Result<(Option<i32>, String)> {
        let output = tokio::time::timeout(UP_WITHIN, command.kill_on_drop(true).output()).await??;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
    }
}

/// A test that fails leaves nothing behind either.
impl Drop for Home {
    fn drop(&mut self) {
        let Ok(Some(record)) = self.record() else { return };
        record.supervisor.signal(Signal::SIGKILL);
        for process in record.processes.iter().filter_map(|process| process.identity) {
            process.signal(Signal::SIGKILL);
        }
    }
}

pub fn alive(record: &UpRecord) -> Vec<&str> {
    let processes = record.processes.iter();
    processes
        .filter(|process| process.identity.is_some_and(Identity::is_alive))
        .map(|process| process.name.as_str())
        .collect()
}

pub async fn interrupt(up: &mut Child) -> anyhow::Result<ExitStatus> {
    let pid = up.id().context("it runs")?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), Signal::SIGINT)?;
    Ok(tokio::time::timeout(WITHIN, up.wait()).await??)
}

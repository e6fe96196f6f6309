//! `orderly up` as its user meets it: the real command, its own PostgreSQL and Kafka, real signals.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use cli::platform::{
    DataDir,
    process::Identity,
    record::{Phase, ProcessState, UpRecord},
};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use testkit::until;
use tokio::process::{Child, Command};

/// How long anything may take here: PostgreSQL's and Kafka's data are made, on a busy machine.
const WITHIN: Duration = Duration::from_secs(120);
const PORTS: [&str; 13] = [
    "postgres",
    "kafka",
    "order",
    "inventory",
    "billing",
    "notification",
    "order-admin",
    "inventory-admin",
    "billing-admin",
    "notification-admin",
    "relay-admin",
    "provider",
    "mail",
];

/// A data directory with ports of its own.
struct Home {
    dir: TempDir,
    ports: Vec<String>,
}

impl Home {
    fn new() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("orderly-live-").tempdir()?;
        // PostgreSQL runs as its own user.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let ports = PORTS.iter().flat_map(|name| [format!("--port-{name}"), stack::port::free().to_string()]);
        Ok(Self { ports: ports.collect(), dir })
    }

    fn data_dir(&self) -> DataDir {
        DataDir::from(self.dir.path().join("data").as_path())
    }

    fn orderly(&self, command: &str) -> Command {
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

    fn up(&self) -> Command {
        let mut up = self.orderly("up");
        up.args(&self.ports);
        up
    }

    fn record(&self) -> anyhow::Result<Option<UpRecord>> {
        UpRecord::read(&self.data_dir())
    }

    async fn when(&self, what: &str, is: impl Fn(&UpRecord) -> bool) -> anyhow::Result<UpRecord> {
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
    fn acknowledged(&self) -> anyhow::Result<usize> {
        let Ok(files) = fs::read_dir(self.data_dir().path().join("acked")) else { return Ok(0) };
        files.map(|file| Ok(fs::read_to_string(file?.path())?.lines().count())).sum()
    }

    /// Runs a command to its end.
    async fn run(&self, command: &mut Command) -> anyhow::Result<(Option<i32>, String)> {
        let output = tokio::time::timeout(WITHIN, command.kill_on_drop(true).output()).await??;
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

fn alive(record: &UpRecord) -> Vec<&str> {
    let processes = record.processes.iter();
    processes
        .filter(|process| process.identity.is_some_and(Identity::is_alive))
        .map(|process| process.name.as_str())
        .collect()
}

async fn interrupt(up: &mut Child) -> anyhow::Result<ExitStatus> {
    let pid = up.id().context("it runs")?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), Signal::SIGINT)?;
    Ok(tokio::time::timeout(WITHIN, up.wait()).await??)
}

#[tokio::test]
async fn what_is_killed_under_load_comes_back_and_the_audit_finds_nothing() -> anyhow::Result<()> {
    let home = Home::new()?;
    // A reader that never reads: every line that is printed meets a full pipe.
    let (_reader, mut pipe) = std::io::pipe()?;
    pipe.write_all(&[b'x'; 65_536])?;
    let mut up = home.up().stdout(pipe.try_clone()?).stderr(pipe).spawn()?;
    let record = home.when("the platform is ready", |record| record.phase == Phase::Ready).await?;

    let (code, said) = home.run(&mut home.up()).await?;
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("another `orderly up` (pid {})", record.supervisor.pid)), "{said}");

    let load = home.orderly("load").args(["--rate", "20", "--duration", "60s", "--json"]).output();
    let load = tokio::spawn(load);
    for process in &record.processes {
        let (name, before) = (&process.name, home.acknowledged()?);
        until("orders are accepted", WITHIN, || async {
            Ok((home.acknowledged()? > before + 20).then_some(()))
        })
        .await?;
        process.identity.context("it runs")?.signal(Signal::SIGKILL);
        home.when(&format!("{name} is back"), |record| {
            let again = record.processes.iter().find(|process| process.name == *name);
            again.is_some_and(|again| again.restarts > 0 && again.state == ProcessState::Running)
        })
        .await?;
    }
    let load = tokio::time::timeout(WITHIN, load).await???;
    let said = [&load.stdout[..], &load.stderr[..]].concat();
    assert_eq!(load.status.code(), Some(0), "{}", String::from_utf8_lossy(&said));
    let figures: serde_json::Value = serde_json::from_slice(&load.stdout)?;
    let orders = &figures["orders"];
    assert_eq!((&orders["offered"], &orders["accepted"]), (&1_200.into(), &1_200.into()), "{figures}");
    assert_eq!(figures["final"]["by_status"]["CONFIRMED"], 1_200, "{figures}");
    assert!(figures["errors"]["UNAVAILABLE"].as_u64() > Some(0), "nothing was felt: {figures}");

    let (code, said) = home.run(&mut home.orderly("verify")).await?;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = home.run(&mut home.orderly("status")).await?;
    assert_eq!(code, Some(0), "{said}");
    assert!(interrupt(&mut up).await?.success());
    let record = home.record()?.context("the record stays")?;
    assert_eq!((record.phase, alive(&record)), (Phase::Stopped, Vec::new()));
    Ok(())
}

#[tokio::test]
async fn ctrl_c_at_any_moment_of_the_start_leaves_nothing_running() -> anyhow::Result<()> {
    let home = Home::new()?;
    for moment in [None, Some("postgres"), Some("kafka"), Some("order")] {
        let mut up = home.up().stdout(Stdio::null()).spawn()?;
        let pid = up.id().context("it runs")?;
        home.when("it has come so far", |record| {
            let started = |name| {
                let found = record.processes.iter().find(|process| process.name == name);
                record.phase == Phase::Starting && found.is_some_and(|found| found.identity.is_some())
            };
            record.supervisor.pid == pid && moment.is_none_or(started)
        })
        .await?;
        assert!(interrupt(&mut up).await?.success(), "{moment:?}");
        let record = home.record()?.context("the record stays")?;
        assert_eq!((record.phase, alive(&record)), (Phase::Stopped, Vec::new()), "{moment:?}");
    }
    let (code, said) = home.run(&mut home.orderly("clean")).await?;
    assert_eq!(code, Some(0), "{said}");
    assert!(!home.data_dir().path().exists());
    Ok(())
}

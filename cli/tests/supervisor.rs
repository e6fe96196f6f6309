//! The supervisor with real processes: `sleep` and `sh`.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Parser as _;
use cli::{
    platform::{
        DataDir,
        process::Identity,
        record::{Phase, Probe, ProcessRecord, ProcessState, UpRecord},
    },
    supervisor::{Spec, Supervisor, program::Program},
    up::{leftovers, ports::Ports},
};
use nix::sys::signal::Signal;
use tokio_util::sync::CancellationToken;

struct Home {
    dir: tempfile::TempDir,
    supervisor: Supervisor,
    hurry: CancellationToken,
}

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    ports: Ports,
}

impl Home {
    fn new() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let record = UpRecord {
            supervisor: Identity::current().context("/proc is mounted")?,
            phase: Phase::Starting,
            endpoints: Line::try_parse_from(["up"])?.ports.endpoints(None, None, String::new()),
            directories: [].into(),
            processes: Vec::new(),
        };
        let hurry = CancellationToken::new();
        let supervisor = Supervisor::new(DataDir::from(dir.path()), record, hurry.clone())?;
        Ok(Self { dir, supervisor, hurry })
    }

    fn keep(&mut self, name: &'static str, script: &str) {
        self.supervisor.keep(Spec {
            name,
            program: Program::Command {
                executable: PathBuf::from("/bin/sh"),
                args: vec!["-c".into(), script.into()],
                env: Vec::new(),
            },
            address: "127.0.0.1:1".to_owned(),
            probe: Probe::Connect("127.0.0.1:1".to_owned()),
            log: self.dir.path().join(format!("logs/{name}.log")),
            stop: Signal::SIGTERM,
            stop_within: Duration::from_secs(20),
        });
    }

    fn data_dir(&self) -> DataDir {
        DataDir::from(self.dir.path())
    }

    fn process(&self, name: &str) -> anyhow::Result<ProcessRecord> {
        let record = UpRecord::read(&self.data_dir())?.context("the record is written first")?;
        record.processes.into_iter().find(|process| process.name == name).context("the process is kept")
    }

    async fn when(&self, name: &str, what: impl Fn(&ProcessRecord) -> bool) -> anyhow::Result<ProcessRecord> {
        for _ in 0..1000 {
            let process = self.process(name)?;
            if what(&process) {
                return Ok(process);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("it did not happen: {:?}", self.process(name)?)
    }
}

fn running(process: &ProcessRecord) -> bool {
    process.state == ProcessState::Running
}

#[tokio::test]
async fn a_process_that_dies_is_started_again_and_counted() -> anyhow::Result<()> {
    let mut home = Home::new()?;
    home.keep("order", "echo born; exec sleep 600");
    let first = home.when("order", running).await?.identity.context("it runs")?;
    first.signal(Signal::SIGKILL);
    let again = home.when("order", |process| running(process) && process.restarts == 1).await?;
    assert_eq!(again.last_exit.as_deref(), Some("signal 9 (SIGKILL)"));
    let second = again.identity.context("it runs")?;
    assert_ne!(first.pid, second.pid);
    home.supervisor.stop_all().await;
    assert!(!second.is_alive());
    let stopped = home.process("order")?;
    assert_eq!((stopped.state, stopped.restarts), (ProcessState::Stopped, 1));
    let log = std::fs::read_to_string(&stopped.log)?;
    assert_eq!(log, "born\nborn\n", "a restart appends to the log");
    Ok(())
}

#[tokio::test]
async fn a_misconfigured_process_ends_the_wait_with_its_own_words() -> anyhow::Result<()> {
    let mut home = Home::new()?;
    home.keep("billing", "echo 'no database url' >&2; exit 64");
    let Err(err) = home.supervisor.ready("billing", Duration::from_secs(60)).await else {
        anyhow::bail!("a process that ends is not ready");
    };
    let message = err.to_string();
    assert!(message.starts_with("billing ended with exit code 64"), "{message}");
    assert!(message.ends_with("no database url"), "{message}");
    home.supervisor.stop_all().await;
    Ok(())
}

#[tokio::test]
async fn a_process_that_ignores_the_signal_is_killed_when_the_user_is_in_a_hurry() -> anyhow::Result<()> {
    let mut home = Home::new()?;
    home.keep("order", "trap '' TERM; echo deaf; while :; do sleep 600 & wait; done");
    let process = home.when("order", running).await?;
    let heard = || std::fs::read_to_string(&process.log).unwrap_or_default() == "deaf\n";
    for _ in 0..1000 {
        if heard() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    home.hurry.cancel();
    home.supervisor.stop_all().await;
    assert_eq!(home.process("order")?.last_exit.as_deref(), Some("signal 9 (SIGKILL)"));
    Ok(())
}

#[tokio::test]
async fn what_a_killed_supervisor_left_is_found_and_stopped() -> anyhow::Result<()> {
    let mut home = Home::new()?;
    home.keep("order", "exec sleep 600");
    home.keep("provider", "exec sleep 600");
    home.when("order", running).await?;
    let provider = home.when("provider", running).await?.identity.context("it runs")?;
    // The record as a supervisor leaves it that is killed now; this one would start the processes again.
    let killed = UpRecord::read(&home.data_dir())?.context("the record is written")?;
    let elsewhere = tempfile::tempdir()?;
    let data_dir = DataDir::from(elsewhere.path());
    killed.write(&data_dir)?;
    assert_eq!(leftovers::alive(&killed).len(), 2);
    leftovers::stop(&data_dir).await?;
    assert!(!provider.is_alive());
    assert!(leftovers::alive(&killed).is_empty());
    let after = UpRecord::read(&data_dir)?.context("the record stays")?;
    assert_eq!(after.phase, Phase::Stopped);
    home.supervisor.stop_all().await;
    Ok(())
}

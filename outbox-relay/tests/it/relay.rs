//! A relay as a child process, and what it says on its admin port.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::until;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How long a relay may take to say something.
const WITHIN: Duration = Duration::from_secs(20);

/// Dropping it kills it.
pub struct Relay {
    child: Child,
    admin: u16,
    log: PathBuf,
}

impl Relay {
    /// Starts a relay of one outbox, named `main`, with these variables in its environment.
    pub fn spawn(
        url: &str,
        kafka: &str,
        prefix: &str,
        log: &Path,
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let admin = stack::port::free();
        let output = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_outbox-relay"));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("ORDERLY_") || text.starts_with("OTEL_") || text == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        let child = command
            .args(["run", "--outbox", &format!("main={url}"), "--kafka", kafka, "--prefix", prefix])
            .args(["--admin", &format!("127.0.0.1:{admin}"), "--ring-interval", "200ms"])
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Ok(Self { child, admin, log: log.to_owned() })
    }

    /// `kill -9`.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and its exit code.
    pub async fn terminate(mut self) -> anyhow::Result<Option<i32>> {
        self.signal(Signal::SIGTERM)?;
        let child = &mut self.child;
        let ended = until("the relay ends", Duration::from_secs(25), || {
            let ended = child.try_wait();
            async move { Ok(ended?) }
        });
        Ok(ended.await?.code())
    }

    /// SIGSTOP, SIGCONT and the like.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }

    /// Whether it has not ended by itself.
    pub fn runs(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits until `/readyz` says this of its outbox.
    pub async fn says(&self, words: &str) -> anyhow::Result<()> {
        self.says_within(words, WITHIN).await
    }

    /// The same with a bound.
    pub async fn says_within(&self, words: &str, bound: Duration) -> anyhow::Result<()> {
        let what = format!("a relay says {words:?}; see {}", self.log.display());
        until(&what, bound, || async {
            Ok(self.get("/readyz").await?.filter(|answer| answer.contains(words)).map(drop))
        })
        .await
    }

    /// Waits until it has published so many events.
    pub async fn publishes(&self, events: f64, bound: Duration) -> anyhow::Result<()> {
        until("events are published", bound, || async {
            let published = self.metric("outbox_published_total").await.context("the number of events")?;
            Ok((published >= events).then_some(()))
        })
        .await
    }

    /// The sum of a metric over its labels; 0 where it is not there.
    pub async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = self.get("/metrics").await?.context("the admin port is closed")?;
        let samples = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        samples.map(|line| Ok(line.rsplit(' ').next().unwrap_or_default().parse::<f64>()?)).sum()
    }

    /// What it shows Prometheus, with exemplars.
    pub async fn openmetrics(&self) -> anyhow::Result<String> {
        let accept = "application/openmetrics-text; version=1.0.0";
        self.ask("/metrics", accept).await?.context("the admin port is closed")
    }

    /// Its resident memory in MiB.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("it has ended")?;
        let kib: u64 = line.split_whitespace().nth(1).context("no figure")?.parse()?;
        Ok(kib / 1024)
    }

    /// The body of an answer; `None` while the port is closed.
    pub async fn get(&self, path: &str) -> anyhow::Result<Option<String>> {
        self.ask(path, "*/*").await
    }

    async fn ask(&self, path: &str, accept: &str) -> anyhow::Result<Option<String>> {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.admin)).await else { return Ok(None) };
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
        );
        let mut answer = String::new();
        let asked = async {
            stream.write_all(request.as_bytes()).await?;
            stream.read_to_string(&mut answer).await
        };
        // One that is frozen accepts and never answers.
        match tokio::time::timeout(Duration::from_secs(2), asked).await {
            Ok(Ok(_)) => Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())),
            _ => Ok(None),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

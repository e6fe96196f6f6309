//! The whole platform for one test: the real binaries, databases of its own, a prefix of its own.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use service::App;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use uuid::Uuid;

use crate::{Database, Servers, servers, servers::binaries, topics, until};

/// How long a process may take to become ready.
const READY: Duration = Duration::from_secs(30);
/// What sqlx warns of on a busy machine, which is no fault of what is tested.
const SLOW: [&str; 2] = ["slow statement", "slow threshold"];

/// A process of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The order service.
    Order,
    /// Billing.
    Billing,
    /// Notification.
    Notification,
    /// The relay of all outboxes.
    Relay,
    /// The simulated payment provider.
    Provider,
    /// The simulated mail server.
    Mail,
}

impl Part {
    /// Every part, in the order in which they are started.
    pub const ALL: [Self; 6] =
        [Self::Provider, Self::Mail, Self::Order, Self::Billing, Self::Notification, Self::Relay];

    fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Billing => "billing",
            Self::Notification => "notification",
            Self::Relay => "relay",
            Self::Provider => "provider",
            Self::Mail => "mail",
        }
    }
}

/// A running platform. Dropping it stops it, drops its databases and its topics, and fails the test when an outbox was
/// left with unpublished events or a process has logged a WARN or ERROR that was not expected.
#[derive(Debug)]
pub struct Platform {
    /// Prefix of its topics and groups.
    pub prefix: String,
    /// The order service's database.
    pub order: Database,
    /// Billing's database.
    pub billing: Database,
    /// Notification's database.
    pub notification: Database,
    servers: Servers,
    folder: PathBuf,
    ports: Vec<(Part, u16, u16)>,
    children: Vec<(Part, Child)>,
    expected: Vec<&'static str>,
}

/// One more worker of a service. Dropping it kills it.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    admin: String,
}

impl Worker {
    /// Waits until it consumes.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ready(&self) -> anyhow::Result<()> {
        until("a worker is ready", READY, || async {
            Ok(readyz(&self.admin).await?.filter(|answer| answer.starts_with("200")).map(drop))
        })
        .await
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it has ended by itself.
    pub fn kill(mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.child.try_wait()?.is_none(), "the worker has ended by itself");
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Platform {
    /// Starts everything and waits until it is ready.
    ///
    /// # Errors
    /// When a binary is missing or does not become ready.
    pub async fn start<O: App, B: App, N: App>() -> anyhow::Result<Self> {
        Self::start_on::<O, B, N>(servers().await?.clone()).await
    }

    /// The same on these servers.
    ///
    /// # Errors
    /// As of [`Platform::start`].
    pub async fn start_on<O: App, B: App, N: App>(servers: Servers) -> anyhow::Result<Self> {
        let prefix = format!("t{}-", &Uuid::new_v4().simple().to_string()[..12]);
        topics::create(&servers.kafka, &prefix).await?;
        let folder = std::env::temp_dir().join(format!("orderly-{prefix}"));
        fs::create_dir_all(&folder)?;
        let mut platform = Self {
            prefix,
            order: Database::create_on::<O>(&servers.postgres).await?,
            billing: Database::create_on::<B>(&servers.postgres).await?,
            notification: Database::create_on::<N>(&servers.postgres).await?,
            servers,
            folder,
            ports: Part::ALL.map(|part| (part, stack::port::free(), stack::port::free())).to_vec(),
            children: Vec::new(),
            expected: Vec::new(),
        };
        for part in Part::ALL {
            platform.spawn(part)?;
        }
        for part in Part::ALL {
            platform.ready(part).await?;
        }
        Ok(platform)
    }

    /// Lets a WARN or ERROR line that contains this text pass: the test provokes it.
    pub fn expect_log(&mut self, text: &'static str) {
        self.expected.push(text);
    }

    /// The gRPC address of a service, as a URL.
    pub fn grpc(&self, part: Part) -> String {
        format!("http://127.0.0.1:{}", self.port(part).0)
    }

    /// The admin address of a service, or the simulator's own.
    pub fn admin(&self, part: Part) -> String {
        format!("127.0.0.1:{}", self.port(part).1)
    }

    /// The bootstrap servers of its Kafka.
    pub fn kafka(&self) -> &str {
        &self.servers.kafka
    }

    /// The durable record of a simulator.
    pub fn ledger(&self, part: Part) -> PathBuf {
        self.folder.join(format!("{}.ndjson", part.name()))
    }

    /// Everything that a process has logged so far.
    ///
    /// # Errors
    /// When it has never been started.
    pub fn log(&self, part: Part) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.folder.join(format!("{}.log", part.name())))?)
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, part: Part) -> anyhow::Result<()> {
        let mut child = self.take(part)?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM, and the exit code within 25 s.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub async fn terminate(&mut self, part: Part) -> anyhow::Result<Option<i32>> {
        let mut child = self.take(part)?;
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM)?;
        let status = until("the process ends", Duration::from_secs(25), || {
            let status = child.try_wait();
            async move { Ok(status?) }
        })
        .await;
        if status.is_err() {
            child.kill()?;
        }
        Ok(status?.code())
    }

    /// Starts a part that was stopped, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn restart(&mut self, part: Part) -> anyhow::Result<()> {
        self.spawn(part)?;
        self.ready(part).await
    }

    /// What a service's `/readyz` answers: 200 or why not. `None` while its port is closed.
    ///
    /// # Errors
    /// When the answer cannot be read.
    pub async fn readyz(&self, part: Part) -> anyhow::Result<Option<String>> {
        readyz(&self.admin(part)).await
    }

    /// The process of a part.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self, part: Part) -> anyhow::Result<u32> {
        let child = self.children.iter().find(|(running, _)| *running == part);
        Ok(child.context("this part does not run")?.1.id())
    }

    fn take(&mut self, part: Part) -> anyhow::Result<Child> {
        let index = self.children.iter().position(|(running, _)| *running == part);
        Ok(self.children.swap_remove(index.context("this part does not run")?).1)
    }

    fn port(&self, part: Part) -> (u16, u16) {
        self.ports
            .iter()
            .find(|(known, ..)| *known == part)
            .map_or((0, 0), |(_, grpc, admin)| (*grpc, *admin))
    }

    /// Starts a part that was stopped, and does not wait.
    ///
    /// # Errors
    /// When its binary is missing.
    pub fn spawn(&mut self, part: Part) -> anyhow::Result<()> {
        let child = self.command(part)?.spawn();
        let child =
            child.with_context(|| format!("{} is not built: `cargo build --workspace`", part.name()))?;
        self.children.push((part, child));
        Ok(())
    }

    /// Starts one more worker of a service, which serves no calls.
    ///
    /// # Errors
    /// When its binary is missing.
    pub fn worker(&self, service: Part) -> anyhow::Result<Worker> {
        let admin = format!("127.0.0.1:{}", stack::port::free());
        let child = self.command(service)?.arg("work").env("ORDERLY_ADMIN", &admin).spawn()?;
        Ok(Worker { child, admin })
    }

    fn command(&self, part: Part) -> anyhow::Result<Command> {
        let folder = binaries()?;
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join(format!("{}.log", part.name())))?;
        let mut command = match part {
            Part::Order | Part::Billing | Part::Notification => Command::new(folder.join(part.name())),
            Part::Relay => Command::new(folder.join("outbox-relay")),
            Part::Provider | Part::Mail => Command::new(folder.join("orderly")),
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ORDERLY_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command
            .env("ORDERLY_KAFKA", &self.servers.kafka)
            .env("ORDERLY_PREFIX", &self.prefix)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let admin = self.admin(part);
        match part {
            Part::Order | Part::Billing | Part::Notification => {
                let database = match part {
                    Part::Order => &self.order,
                    Part::Billing => &self.billing,
                    _ => &self.notification,
                };
                command
                    .env("ORDERLY_LISTEN", format!("127.0.0.1:{}", self.port(part).0))
                    .env("ORDERLY_ADMIN", admin)
                    .env("ORDERLY_DATABASE_URL", database.app_url())
                    .env("ORDERLY_PROVIDER_URL", format!("http://{}", self.admin(Part::Provider)))
                    .env("ORDERLY_SMTP", self.admin(Part::Mail));
            }
            Part::Relay => {
                let outboxes = [
                    ("order", &self.order),
                    ("billing", &self.billing),
                    ("notification", &self.notification),
                ]
                .map(|(name, database)| format!("{name}={}", database.url("orderly_relay")));
                command.env("ORDERLY_ADMIN", admin).env("ORDERLY_OUTBOX", outboxes.join(","));
            }
            Part::Provider | Part::Mail => {
                command
                    .args(["simulate", part.name(), "--listen", &admin, "--ledger"])
                    .arg(self.ledger(part));
            }
        }
        Ok(command)
    }

    async fn ready(&self, part: Part) -> anyhow::Result<()> {
        let address = self.admin(part);
        let what = format!("{} is ready; see {}", part.name(), self.folder.display());
        until(&what, READY, || is_ready(part, &address)).await
    }

    /// What is wrong with how this platform ended, if anything.
    async fn ended(&self) -> anyhow::Result<Option<String>> {
        for database in [&self.order, &self.billing, &self.notification] {
            let pool = database.superuser().await?;
            let unpublished: i64 = sqlx::query_scalar(
                "select count(*) from outbox.event, outbox.cursor where not pg_visible_in_snapshot(xid, snap)",
            )
            .fetch_one(&pool)
            .await?;
            if unpublished > 0 {
                return Ok(Some(format!("{unpublished} events were left unpublished")));
            }
        }
        for part in Part::ALL {
            let log = self.log(part)?;
            let unexpected = log.lines().find(|line| {
                (line.contains(" WARN ") || line.contains(" ERROR "))
                    && !self.expected.iter().chain(&SLOW).any(|text| line.contains(text))
            });
            if let Some(line) = unexpected {
                return Ok(Some(format!("{} logged: {line}", part.name())));
            }
        }
        Ok(None)
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let running: Vec<Part> = self.children.iter().map(|(part, _)| *part).collect();
        let platform = &*self;
        let wrong = std::thread::scope(|scope| {
            let checked = scope.spawn(|| -> anyhow::Result<Option<String>> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    if !running.contains(&Part::Relay) {
                        return Ok(None);
                    }
                    // What was in flight when the test ended.
                    let ended = until("outboxes are drained", Duration::from_secs(20), || async {
                        let wrong = platform.ended().await?;
                        let waits = wrong.as_ref().is_some_and(|wrong| wrong.contains("unpublished"));
                        Ok((!waits).then_some(wrong))
                    });
                    ended.await
                })
            });
            checked.join()
        });
        for (_, child) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let (kafka, prefix) = (self.servers.kafka.clone(), self.prefix.clone());
        let _ = std::thread::spawn(move || -> anyhow::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { topics::delete(&kafka, &prefix).await })
        })
        .join();
        let failed = std::thread::panicking();
        let wrong = match wrong {
            Ok(Ok(wrong)) => wrong,
            Ok(Err(error)) => Some(format!("the platform could not be checked: {error:#}")),
            Err(_) => Some("the platform could not be checked".into()),
        };
        if !failed {
            let _ = fs::remove_dir_all(&self.folder);
            assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
        }
    }
}

/// `/readyz`, or for a simulator an open port.
async fn is_ready(part: Part, address: &str) -> anyhow::Result<Option<()>> {
    if matches!(part, Part::Provider | Part::Mail) {
        return Ok(TcpStream::connect(address).await.ok().map(drop));
    }
    Ok(readyz(address).await?.filter(|answer| answer.starts_with("200")).map(drop))
}

/// The status code and the body.
async fn readyz(address: &str) -> anyhow::Result<Option<String>> {
    let Ok(mut stream) = TcpStream::connect(address).await else { return Ok(None) };
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let code = head.split_whitespace().nth(1).context("no status code")?;
    Ok(Some(format!("{code} {body}")))
}

//! The whole platform for one test: the real binaries, databases of its own, a prefix of its own.

mod end;
mod part;
mod probe;
mod worker;

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;
use service::App;
use uuid::Uuid;

pub use self::{part::Part, worker::Worker};

use self::{
    end::{ended, terminate},
    probe::{READY, is_ready, readyz},
};
use crate::{Collector, Database, Servers, servers::binaries, topics, until};

/// The services of a platform, whose migrations make its databases. What runs are their binaries.
pub trait Services {
    /// `order`.
    type Order: App;
    /// `inventory`.
    type Inventory: App;
    /// `billing`.
    type Billing: App;
    /// `notification`.
    type Notification: App;
}

/// A running platform. Dropping it stops it, drops its databases and its topics, and fails the test when an outbox was
/// left with unpublished events or a process has logged a WARN or ERROR that was not expected.
#[derive(Debug)]
pub struct Platform {
    /// Prefix of its topics and groups.
    pub prefix: String,
    /// The order service's database.
    pub order: Database,
    /// Inventory's database.
    pub inventory: Database,
    /// Billing's database.
    pub billing: Database,
    /// Notification's database.
    pub notification: Database,
    servers: Servers,
    folder: PathBuf,
    ports: Vec<(Part, u16, u16)>,
    children: Vec<(Part, Child)>,
    expected: Vec<&'static str>,
    settings: Vec<(Part, &'static str, String)>,
}

impl Platform {
    /// Starts everything on these servers and waits until it is ready.
    ///
    /// # Errors
    /// When a binary is missing or does not become ready.
    pub async fn start<S: Services>(servers: Servers) -> anyhow::Result<Self> {
        let prefix = format!("t{}-", &Uuid::new_v4().simple().to_string()[..12]);
        topics::create(&servers.kafka, &prefix).await?;
        let folder = std::env::temp_dir().join(format!("orderly-{prefix}"));
        fs::create_dir_all(&folder)?;
        let mut platform = Self {
            prefix,
            order: Database::create_on::<S::Order>(&servers.postgres).await?,
            inventory: Database::create_on::<S::Inventory>(&servers.postgres).await?,
            billing: Database::create_on::<S::Billing>(&servers.postgres).await?,
            notification: Database::create_on::<S::Notification>(&servers.postgres).await?,
            servers,
            folder,
            ports: Part::ALL.map(|part| (part, stack::port::free(), stack::port::free())).to_vec(),
            children: Vec::new(),
            expected: Vec::new(),
            settings: Vec::new(),
        };
        platform.start_all().await?;
        Ok(platform)
    }

    /// Starts every part after all were stopped, and waits until they are ready.
    ///
    /// # Errors
    /// When a binary is missing or does not become ready.
    pub async fn start_all(&mut self) -> anyhow::Result<()> {
        for part in Part::ALL {
            self.spawn(part)?;
        }
        for part in Part::ALL {
            self.ready(part).await?;
        }
        Ok(())
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

    /// The databases, each with its service.
    pub fn databases(&self) -> [(Part, &Database); 4] {
        [
            (Part::Order, &self.order),
            (Part::Inventory, &self.inventory),
            (Part::Billing, &self.billing),
            (Part::Notification, &self.notification),
        ]
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
        terminate(self.child(part)?)?;
        ended(self.take(part)?).await
    }

    /// SIGTERM to every part at the same time, and what each one that has not ended with exit code 0 within 25 s has
    /// done instead.
    ///
    /// # Errors
    /// When one of them could not be asked.
    pub async fn terminate_all(&mut self) -> anyhow::Result<Vec<String>> {
        for (_, child) in &self.children {
            terminate(child)?;
        }
        let mut wrong = Vec::new();
        for (part, child) in self.children.drain(..) {
            match ended(child).await {
                Ok(Some(0)) => {}
                Ok(code) => wrong.push(format!("{} ended with {code:?}", part.name())),
                Err(error) => wrong.push(format!("{}: {error:#}", part.name())),
            }
        }
        Ok(wrong)
    }

    /// Starts a part that was stopped, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn restart(&mut self, part: Part) -> anyhow::Result<()> {
        self.spawn(part)?;
        self.ready(part).await
    }

    /// Starts a part anew with this environment variable beside the others.
    ///
    /// # Errors
    /// When it does not run, or does not become ready.
    pub async fn configure(
        &mut self,
        part: Part,
        variable: &'static str,
        value: impl Into<String>,
    ) -> anyhow::Result<()> {
        self.settings.push((part, variable, value.into()));
        self.terminate(part).await?;
        self.restart(part).await
    }

    /// Starts every part anew with these environment variables beside the others.
    ///
    /// # Errors
    /// When one does not run, or does not become ready.
    pub async fn configure_all(&mut self, settings: &[(&'static str, &str)]) -> anyhow::Result<()> {
        for part in Part::ALL {
            let settings = settings.iter().map(|(variable, value)| (part, *variable, (*value).to_owned()));
            self.settings.extend(settings);
        }
        let wrong = self.terminate_all().await?;
        anyhow::ensure!(wrong.is_empty(), "{wrong:?}");
        self.start_all().await
    }

    /// Starts every part anew, with all its spans exported to this collector soon after they have ended, except where a
    /// caller does not sample its own.
    ///
    /// # Errors
    /// When one does not run, or does not become ready.
    pub async fn trace(&mut self, collector: &Collector) -> anyhow::Result<()> {
        let endpoint = collector.endpoint();
        // The collector may be gone before the last of them.
        self.expect_log("spans are not exported and are lost");
        self.configure_all(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_TRACES_SAMPLER", "parentbased_always_on"),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ])
        .await
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
        Ok(self.child(part)?.id())
    }

    fn child(&self, part: Part) -> anyhow::Result<&Child> {
        let child = self.children.iter().find(|(running, _)| *running == part);
        Ok(&child.context("this part does not run")?.1)
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
        let mut command = Command::new(folder.join(match part {
            Part::Relay => "outbox-relay",
            Part::Provider | Part::Mail => "orderly",
            service => service.name(),
        }));
        for (name, _) in std::env::vars_os() {
            let named = name.to_string_lossy();
            if named.starts_with("ORDERLY_") || named.starts_with("OTEL_") || named == "RUST_LOG" {
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
            Part::Relay => {
                let outboxes = self.databases().map(|(service, database)| {
                    format!("{}={}", service.name(), database.url("orderly_relay"))
                });
                command.env("ORDERLY_ADMIN", admin).env("ORDERLY_OUTBOX", outboxes.join(","));
            }
            Part::Provider | Part::Mail => {
                command
                    .args(["simulate", part.name(), "--listen", &admin, "--ledger"])
                    .arg(self.ledger(part));
            }
            service => {
                let database = self.databases().into_iter().find(|(known, _)| *known == service);
                let (_, database) = database.context("a service has a database")?;
                command
                    .env("ORDERLY_LISTEN", format!("127.0.0.1:{}", self.port(part).0))
                    .env("ORDERLY_ADMIN", admin)
                    .env("ORDERLY_DATABASE_URL", database.app_url())
                    .env("ORDERLY_PROVIDER_URL", format!("http://{}", self.admin(Part::Provider)))
                    .env("ORDERLY_SMTP", self.admin(Part::Mail))
                    .env("ORDERLY_WEBHOOK_ALLOW_PRIVATE", "true");
            }
        }
        let settings = self.settings.iter().filter(|(of, ..)| *of == part);
        command.envs(settings.map(|(_, variable, value)| (*variable, value)));
        Ok(command)
    }

    async fn ready(&self, part: Part) -> anyhow::Result<()> {
        let address = self.admin(part);
        let what = format!("{} is ready; see {}", part.name(), self.folder.display());
        until(&what, READY, || is_ready(part, &address)).await
    }
}

//! A benchmark's own PostgreSQL and Kafka, and the folder that all of it lives in.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use stack::{Server, kafka, port, postgres};
use uuid::Uuid;

use super::broker::Broker;
use crate::{output, platform::process::Identity};

/// How long a server may take to answer.
const READY: Duration = Duration::from_secs(60);
/// PostgreSQL's settings beside those of every stack. Debezium needs `wal_level`; all publishers are measured with it.
/// Nothing that protects data is switched off.
const SETTINGS: [(&str, &str); 4] = [
    ("wal_level", "logical"),
    ("shared_buffers", "512MB"),
    ("max_wal_size", "4GB"),
    ("max_replication_slots", "10"),
];
/// Kafka's heap, as its own start script sets it.
pub(super) const HEAP: &str = "1g";
/// Where Kafka's libraries are, for checkouts that share them.
const LIBS: &str = "ORDERLY_KAFKA_LIBS";
/// The roles of the outbox.
pub(super) const ROLES: ::outbox::Roles<'static> =
    ::outbox::Roles { app: "bench_app", relay: "bench_relay", audit: "bench_audit", operator: "bench_audit" };

/// The servers, as soon as they are started. Dropping this kills them and deletes their data.
#[derive(Debug)]
pub(super) struct Servers {
    /// Kept from run to run.
    kept: PathBuf,
    /// Of this run: logs, configuration, data.
    folder: PathBuf,
    /// PostgreSQL's data, which may have to lie elsewhere.
    data: PathBuf,
    libs: PathBuf,
    relay: PathBuf,
    password: String,
    postgres_port: u16,
    kafka_address: String,
    postgres: Option<Server>,
    kafka: Option<Server>,
    /// Held until the end, so that two benchmarks do not disturb each other here.
    _lock: File,
}

impl Servers {
    /// Makes the folder; what an earlier run has left there is deleted.
    pub(super) fn prepare(work_dir: &Path, relay: PathBuf) -> anyhow::Result<Self> {
        let kept = std::path::absolute(work_dir)?;
        fs::create_dir_all(&kept).with_context(|| format!("could not make {}", kept.display()))?;
        let lock = File::options().create(true).truncate(false).write(true).open(kept.join("lock"))?;
        if lock.try_lock().is_err() {
            bail!("another benchmark runs in {}: let it end, or use another --work-dir", kept.display());
        }
        let folder = kept.join("run");
        let data = postgres::data_directory(&folder.join("postgres"))?;
        for folder in [&folder, &data].into_iter().filter(|folder| folder.exists()) {
            fs::remove_dir_all(folder).with_context(|| format!("could not delete {}", folder.display()))?;
        }
        fs::create_dir_all(&folder)?;
        let shared = relay.parent().and_then(Path::parent).map(|target| target.join("kafka-libs"));
        let libs =
            std::env::var_os(LIBS).map(PathBuf::from).or(shared.filter(|libs| kafka::is_installed(libs)));
        Ok(Self {
            libs: libs.unwrap_or_else(|| kept.join("kafka-libs")),
            kept,
            folder,
            data,
            relay,
            password: Uuid::new_v4().simple().to_string(),
            postgres_port: port::free(),
            kafka_address: format!("127.0.0.1:{}", port::free()),
            postgres: None,
            kafka: None,
            _lock: lock,
        })
    }

    pub(super) async fn start(&mut self) -> anyhow::Result<()> {
        if !kafka::is_installed(&self.libs) {
            output::note(format!("installing Kafka from Maven Central (54 MB) in {}", self.libs.display()));
        }
        output::note(format!("starting PostgreSQL and Kafka in {}", self.folder.display()));
        let (_, kafka_port) = self.kafka_address.rsplit_once(':').context("an address has a port")?;
        let config = kafka::Config {
            port: kafka_port.parse()?,
            controller_port: port::free(),
            data: self.folder.join("kafka"),
            libs: self.libs.clone(),
            heap: HEAP.to_owned(),
            settings: Vec::new(),
        };
        let launch = kafka::prepare(&config).await?;
        let kafka = Server::start(&launch, &self.log("kafka"))?;
        let kafka = self.kafka.insert(kafka);
        kafka.until(kafka::ready(&self.kafka_address, READY)).await?;

        let config = postgres::Config {
            port: self.postgres_port,
            data: self.data.clone(),
            superuser_password: self.password.clone(),
            settings: SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        };
        let launch = postgres::prepare(&config).await?;
        let postgres = Server::start(&launch, &self.log("postgres"))?;
        let postgres = self.postgres.insert(postgres);
        postgres.until(postgres::ready(&postgres::url(&config), READY)).await?;
        let mut superuser = self.superuser("postgres").await?;
        for role in [ROLES.app, ROLES.relay, ROLES.audit] {
            let create = format!("CREATE ROLE {role} LOGIN PASSWORD '{}'", self.password);
            sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut superuser).await?;
        }
        Ok(())
    }

    /// Stops everything in good order and deletes the data.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        for server in [self.kafka.take(), self.postgres.take()].into_iter().flatten() {
            server.stop().await?;
        }
        Ok(())
    }

    pub(super) fn relay(&self) -> &Path {
        &self.relay
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn libs(&self) -> &Path {
        &self.libs
    }

    /// Where Debezium is kept.
    pub(super) fn debezium(&self) -> PathBuf {
        self.kept.join("debezium")
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Kafka's address.
    pub(super) fn kafka(&self) -> &str {
        &self.kafka_address
    }

    pub(super) fn broker(&self) -> anyhow::Result<Broker> {
        Broker::connect(&self.kafka_address)
    }

    pub(super) fn postgres_port(&self) -> u16 {
        self.postgres_port
    }

    /// The password of every role.
    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// PostgreSQL and Kafka as processes.
    pub(super) fn processes(&self) -> anyhow::Result<(Identity, Identity)> {
        let identity =
            |server: &Option<Server>| server.as_ref().and_then(|server| Identity::of(server.pid()));
        let (postgres, kafka) = (identity(&self.postgres), identity(&self.kafka));
        Ok((postgres.context("PostgreSQL has ended")?, kafka.context("Kafka has ended")?))
    }

    /// An empty database of this name.
    pub(super) async fn create_database(&self, name: &str) -> anyhow::Result<()> {
        let mut superuser = self.superuser("postgres").await?;
        let create = format!("CREATE DATABASE {name}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut superuser).await?;
        Ok(())
    }

    pub(super) async fn drop_database(&self, name: &str) -> anyhow::Result<()> {
        let mut superuser = self.superuser("postgres").await?;
        let drop = format!("DROP DATABASE {name} WITH (FORCE)");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut superuser).await?;
        Ok(())
    }

    /// A session of the superuser.
    pub(super) async fn superuser(&self, database: &str) -> anyhow::Result<PgConnection> {
        let options: PgConnectOptions = self.url("postgres", database).parse()?;
        let mut session = options.disable_statement_logging().connect().await?;
        session.ping().await?;
        Ok(session)
    }

    /// Sessions of a role.
    pub(super) async fn pool(&self, role: &str, database: &str, sessions: u32) -> anyhow::Result<PgPool> {
        let options: PgConnectOptions = self.url(role, database).parse()?;
        let pool = PgPoolOptions::new().max_connections(sessions).min_connections(sessions);
        // Asking a session whether it lives before each transaction is not what a service under load should do either.
        Ok(pool.test_before_acquire(false).connect_with(options.disable_statement_logging()).await?)
    }

    pub(super) fn url(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}:{}@127.0.0.1:{}/{database}", self.password, self.postgres_port)
    }

    /// A setting as the server has it.
    pub(super) async fn setting(&self, name: &str) -> anyhow::Result<String> {
        let mut superuser = self.superuser("postgres").await?;
        let show = sqlx::query(AssertSqlSafe(format!("SHOW {name}"))).fetch_one(&mut superuser).await?;
        Ok(show.try_get(0)?)
    }

    /// Writes out what is dirty, so that no peer pays for what another has written.
    pub(super) async fn checkpoint(&self) -> anyhow::Result<()> {
        sqlx::raw_sql("CHECKPOINT").execute(&mut self.superuser("postgres").await?).await?;
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop((self.kafka.take(), self.postgres.take()));
        for folder in [&self.folder, &self.data].into_iter().filter(|folder| folder.exists()) {
            if let Err(err) = fs::remove_dir_all(folder) {
                output::note(format!("warning: could not delete {}: {err}", folder.display()));
            }
        }
    }
}

//! A server that its test may stop and kill, which nobody may do to the shared ones.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use stack::{Server, kafka, port, postgres};
use tokio::process::Command;

use crate::{Servers, servers, servers::binaries};

/// How long a server may take to answer.
const READY: Duration = Duration::from_secs(60);

/// A PostgreSQL or a Kafka of one test. Dropping it kills it and deletes its data.
#[derive(Debug)]
pub struct Dedicated {
    config: Config,
    folders: Vec<PathBuf>,
    log: PathBuf,
    server: Option<Server>,
}

#[derive(Debug)]
enum Config {
    Postgres(postgres::Config),
    Kafka(kafka::Config),
}

impl Dedicated {
    /// A PostgreSQL that answers.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn postgres() -> anyhow::Result<Self> {
        Self::postgres_in(&scratch()).await
    }

    /// A Kafka that answers.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn kafka() -> anyhow::Result<Self> {
        Self::kafka_in(&scratch(), &[]).await
    }

    /// A Kafka that answers, with lines of its own in `server.properties`.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn kafka_with(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::kafka_in(&scratch(), settings).await
    }

    /// A PostgreSQL with its data and its log in this folder; what was there before is deleted.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn postgres_in(folder: &Path) -> anyhow::Result<Self> {
        let data = postgres::data_directory(&folder.join("postgres"))?;
        let config = postgres::Config {
            port: port::free(),
            data: data.clone(),
            superuser_password: "tests-on-loopback".to_owned(),
            // Databases live for a second; a crash of the machine may lose them.
            settings: [("fsync", "off"), ("max_connections", "400"), ("max_prepared_transactions", "20")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
        };
        Self::start_new(Config::Postgres(config), vec![folder.to_owned(), data], folder.join("postgres.log"))
            .await
    }

    /// A Kafka with its data and its log in this folder; what was there before is deleted.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn kafka_in(folder: &Path, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let libs = match std::env::var_os("ORDERLY_KAFKA_LIBS") {
            Some(libs) => PathBuf::from(libs),
            None => binaries()?.with_file_name("kafka-libs"),
        };
        let config = kafka::Config {
            port: port::free(),
            controller_port: port::free(),
            data: folder.join("kafka"),
            libs,
            heap: "512m".to_owned(),
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        Self::start_new(Config::Kafka(config), vec![folder.to_owned()], folder.join("kafka.log")).await
    }

    async fn start_new(config: Config, folders: Vec<PathBuf>, log: PathBuf) -> anyhow::Result<Self> {
        for folder in folders.iter().filter(|folder| folder.exists()) {
            fs::remove_dir_all(folder)?;
        }
        let mut dedicated = Self { config, folders, log, server: None };
        dedicated.start().await?;
        Ok(dedicated)
    }

    /// Starts it again, at the same address, and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let launch = match &self.config {
            Config::Postgres(config) => postgres::prepare(config).await?,
            Config::Kafka(config) => kafka::prepare(config).await?,
        };
        let address = self.address();
        let server = self.server.insert(Server::start(&launch, &self.log)?);
        match &self.config {
            Config::Postgres(config) => {
                server.until(postgres::ready(&postgres::url(config), READY)).await?;
            }
            Config::Kafka(_) => server.until(kafka::ready(&address, READY)).await?,
        }
        Ok(())
    }

    /// Stops it in good order.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        Ok(self.server.take().context("it does not run")?.stop().await?)
    }

    /// Stops it, and starts it anew at the same address: without its data, as another cluster.
    ///
    /// # Errors
    /// When it does not run, or not start.
    pub async fn replace(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        let data = match &self.config {
            Config::Postgres(config) => &config.data,
            Config::Kafka(config) => &config.data,
        };
        fs::remove_dir_all(data)?;
        self.start().await
    }

    /// Kills it as `kill -9` does.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.server.take().context("it does not run")?.kill().await?)
    }

    /// Runs a tool of Kafka against it: the tool's class, and its arguments but for the broker's address.
    ///
    /// # Errors
    /// When it is no Kafka, or the tool fails.
    pub async fn tool(&self, class: &str, args: &[&str]) -> anyhow::Result<()> {
        let Config::Kafka(config) = &self.config else { anyhow::bail!("a tool of Kafka, for PostgreSQL") };
        let mut tool = Command::new("java");
        tool.arg("-cp").arg(config.libs.join("*"));
        tool.args([class, "--bootstrap-server", &self.address()]).args(args);
        let output = tokio::time::timeout(READY, tool.kill_on_drop(true).output()).await??;
        anyhow::ensure!(output.status.success(), "{class}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Its address in the form of [`Servers`].
    #[must_use]
    pub fn address(&self) -> String {
        match &self.config {
            Config::Postgres(postgres::Config { port, superuser_password, .. }) => {
                format!("postgres://postgres:{superuser_password}@127.0.0.1:{port}")
            }
            Config::Kafka(config) => format!("127.0.0.1:{}", config.port),
        }
    }

    /// This server, with the shared other one.
    ///
    /// # Errors
    /// When the shared servers do not start.
    pub async fn with_shared(&self) -> anyhow::Result<Servers> {
        let mut servers = servers().await?.clone();
        match &self.config {
            Config::Postgres(_) => servers.postgres = self.address(),
            Config::Kafka(_) => servers.kafka = self.address(),
        }
        Ok(servers)
    }
}

impl Drop for Dedicated {
    fn drop(&mut self) {
        drop(self.server.take());
        for folder in &self.folders {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

fn scratch() -> PathBuf {
    std::env::temp_dir().join(format!("orderly-server-{}", uuid::Uuid::now_v7().simple()))
}

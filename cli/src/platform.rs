//! Where the running platform is: its data directory, databases, brokers and addresses, for every command.
//!
//! `up` writes the endpoints to `<data>/up.json` and the passwords to `<data>/credentials.json`; [`Platform::load`]
//! reads both. `--postgres` and `--kafka` name servers that already run.

mod data_dir;
mod database;
pub mod process;
pub mod record;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::{Context as _, anyhow, bail};
use reqwest::Url;
use serde::{Deserialize, Serialize};

pub use data_dir::DataDir;
pub use database::Database;

use crate::credentials::{self, Credentials};
use record::UpRecord;

/// Servers to use instead of those that `up.json` names.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// PostgreSQL server, with the role to use: postgres://ROLE:PASSWORD@HOST:PORT
    #[arg(long, env = "ORDERLY_POSTGRES", value_name = "URL", hide_env_values = true)]
    pub postgres: Option<Url>,
    /// Kafka bootstrap server
    #[arg(long, env = "ORDERLY_KAFKA", value_name = "HOST:PORT")]
    pub kafka: Option<String>,
    /// Put before every topic and group name
    #[arg(long, env = "ORDERLY_PREFIX")]
    pub prefix: Option<String>,
}

/// Where everything listens. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// `postgres://host:port` with the server's options, without a role.
    pub postgres: String,
    /// Kafka bootstrap server.
    pub kafka: String,
    /// Put before topic and group names.
    pub prefix: String,
    /// The order service's gRPC address.
    pub order: SocketAddr,
    /// The inventory service's gRPC address.
    #[serde(default = "unknown")]
    pub inventory: SocketAddr,
    /// The billing service's gRPC address.
    pub billing: SocketAddr,
    /// The notification service's gRPC address.
    pub notification: SocketAddr,
    /// The order service's admin address.
    pub order_admin: SocketAddr,
    /// The inventory service's admin address.
    #[serde(default = "unknown")]
    pub inventory_admin: SocketAddr,
    /// The billing service's admin address.
    pub billing_admin: SocketAddr,
    /// The notification service's admin address.
    pub notification_admin: SocketAddr,
    /// The relay's admin address.
    pub relay_admin: SocketAddr,
    /// The exporter's admin address.
    #[serde(default = "unknown")]
    pub exporter: SocketAddr,
    /// The simulated payment provider's HTTP address.
    pub provider: SocketAddr,
    /// The simulated mail server's SMTP address.
    pub mail: SocketAddr,
    /// Where the platform is observed; nothing where it is not.
    #[serde(default)]
    pub observe: Option<Observe>,
}

/// Where what observes the platform listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observe {
    /// Prometheus.
    pub prometheus: SocketAddr,
    /// The PostgreSQL exporter.
    pub postgres: SocketAddr,
    /// The JMX exporter in the broker; nothing where Kafka runs elsewhere.
    pub kafka: Option<SocketAddr>,
    /// Grafana, where one is installed.
    pub grafana: Option<SocketAddr>,
}

/// The platform that a command works on.
#[derive(Clone, Debug)]
pub struct Platform {
    data_dir: DataDir,
    endpoints: Endpoints,
    login: Login,
}

#[derive(Clone)]
enum Login {
    Kept(Credentials),
    /// The role and password of `--postgres`, for every database.
    Given(Box<Url>),
}

impl Platform {
    /// Reads where the platform of this data directory is, whether or not it runs at the moment.
    ///
    /// # Errors
    /// When none was ever started there, or its files cannot be read.
    pub fn load(data_dir: &DataDir) -> anyhow::Result<Self> {
        let missing = || {
            let dir = data_dir.path().display();
            anyhow!("no platform was started in {dir}; start one with `make up`, or name its --data-dir")
        };
        let record = UpRecord::read(data_dir)?.ok_or_else(missing)?;
        let credentials = Credentials::read(&data_dir.credentials())?.ok_or_else(missing)?;
        Ok(Self::new(data_dir.clone(), record.endpoints, credentials))
    }

    /// [`Platform::load`], with the servers that the flags name instead.
    ///
    /// # Errors
    /// As [`Platform::load`].
    pub fn find(data_dir: &DataDir, flags: &Flags) -> anyhow::Result<Self> {
        let mut platform = Self::load(data_dir)?;
        if let Some(url) = &flags.postgres {
            platform.endpoints.postgres = without_role(url);
            platform.login = Login::Given(Box::new(url.clone()));
        }
        if let Some(kafka) = &flags.kafka {
            platform.endpoints.kafka.clone_from(kafka);
        }
        if let Some(prefix) = &flags.prefix {
            platform.endpoints.prefix.clone_from(prefix);
        }
        Ok(platform)
    }

    /// A platform whose servers and passwords are known.
    #[must_use]
    pub fn new(data_dir: DataDir, endpoints: Endpoints, credentials: Credentials) -> Self {
        Self { data_dir, endpoints, login: Login::Kept(credentials) }
    }

    /// Where everything listens.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &DataDir {
        &self.data_dir
    }

    /// The read-only role's URL of a database.
    ///
    /// # Errors
    /// When the role has no password in the data directory.
    pub fn audit_url(&self, database: Database) -> anyhow::Result<String> {
        self.url(credentials::AUDIT, database.name())
    }

    /// The operator's URL of a database.
    ///
    /// # Errors
    /// When the role has no password in the data directory.
    pub fn operator_url(&self, database: Database) -> anyhow::Result<String> {
        self.url(credentials::OPERATOR, database.name())
    }

    /// The relay's URL of a database.
    ///
    /// # Errors
    /// When the role has no password in the data directory.
    pub fn relay_url(&self, database: Database) -> anyhow::Result<String> {
        self.url(credentials::RELAY, database.name())
    }

    /// The service's own URL of its database.
    ///
    /// # Errors
    /// When the role has no password in the data directory.
    pub fn app_url(&self, database: Database) -> anyhow::Result<String> {
        self.url(&database.app(), database.name())
    }

    /// The migrating role's URL of a database.
    ///
    /// # Errors
    /// When the role has no password in the data directory.
    pub fn owner_url(&self, database: Database) -> anyhow::Result<String> {
        self.url(&database.owner(), database.name())
    }

    /// The kept password of the superuser.
    ///
    /// # Errors
    /// When there is none in the data directory.
    pub fn superuser_password(&self) -> anyhow::Result<&str> {
        let password = self.credentials()?.password(credentials::SUPERUSER);
        password.with_context(|| format!("no superuser in {}", self.data_dir.credentials().display()))
    }

    /// The kept passwords.
    ///
    /// # Errors
    /// When the platform was found by `--postgres`.
    pub fn credentials(&self) -> anyhow::Result<&Credentials> {
        match &self.login {
            Login::Kept(credentials) => Ok(credentials),
            Login::Given(_) => bail!("--postgres gives one role only"),
        }
    }

    /// Kafka's bootstrap server.
    #[must_use]
    pub fn kafka(&self) -> &str {
        &self.endpoints.kafka
    }

    /// What stands before every topic and group name.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.endpoints.prefix
    }

    /// The order service's gRPC URL.
    #[must_use]
    pub fn order_grpc(&self) -> String {
        format!("http://{}", self.endpoints.order)
    }

    /// The inventory service's gRPC URL.
    #[must_use]
    pub fn inventory_grpc(&self) -> String {
        format!("http://{}", self.endpoints.inventory)
    }

    /// The simulated provider's ledger.
    #[must_use]
    pub fn provider_ledger(&self) -> PathBuf {
        self.data_dir.provider_ledger()
    }

    /// The simulated mail server's ledger.
    #[must_use]
    pub fn mail_ledger(&self) -> PathBuf {
        self.data_dir.mail_ledger()
    }

    /// The folder of the orders that `load` saw acknowledged, one file a run.
    #[must_use]
    pub fn acked_dir(&self) -> PathBuf {
        self.data_dir.path().join("acked")
    }

    fn url(&self, role: &str, database: &str) -> anyhow::Result<String> {
        match &self.login {
            Login::Given(url) => {
                let mut url = url.clone();
                url.set_path(database);
                Ok(url.to_string())
            }
            Login::Kept(credentials) => {
                let password = credentials.password(role).with_context(|| {
                    let path = self.data_dir.credentials();
                    format!("role {role} has no password in {}; `orderly up` makes one", path.display())
                })?;
                role_url(&self.endpoints.postgres, role, password, database)
            }
        }
    }
}

/// The address of a service that a platform of an earlier build did not have: its record can still be read, to stop it.
fn unknown() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// The server of a URL, without role, password and database.
pub(crate) fn without_role(url: &Url) -> String {
    let mut url = url.clone();
    // Only URLs that cannot have a host refuse these, and those have nothing to remove.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_path("");
    url.to_string()
}

pub(crate) fn role_url(server: &str, role: &str, password: &str, database: &str) -> anyhow::Result<String> {
    let mut url = Url::parse(server).context("the PostgreSQL server is not a URL")?;
    let set = url.set_username(role).and_then(|()| url.set_password(Some(password)));
    set.map_err(|()| anyhow!("the PostgreSQL URL {server} names no host"))?;
    url.set_path(database);
    Ok(url.to_string())
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kept(_) => "Kept",
            Self::Given(_) => "Given",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_url_loses_its_role_and_gets_another() -> anyhow::Result<()> {
        let url = Url::parse("postgres://boss:secret@db.example:6432/postgres?sslmode=require")?;
        let server = without_role(&url);
        assert_eq!(server, "postgres://db.example:6432?sslmode=require");
        assert_eq!(
            role_url(&server, "orderly_audit", "pw", "orderly_order")?,
            "postgres://orderly_audit:pw@db.example:6432/orderly_order?sslmode=require"
        );
        Ok(())
    }
}

//! Flags that every service has. Each is an environment variable too.

use std::{fmt, fs, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use anyhow::Context as _;
use telemetry::LogArgs;

/// A value that never prints.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The value, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Ok(Self(value.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// Where a service listens; the defaults are its own.
pub trait Addresses {
    /// gRPC.
    fn listen(&self) -> SocketAddr;
    /// /livez, /readyz, /metrics, /version.
    fn admin(&self) -> SocketAddr;
    /// What is wrong across fields, in words.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// The service's database.
#[derive(Clone, Debug, clap::Args)]
pub struct DatabaseArgs {
    /// PostgreSQL URL of the service's database: the app role's, or the owner's for `migrate`.
    #[arg(long, env = "ORDERLY_DATABASE_URL", hide_env_values = true)]
    database_url: Option<Secret>,
    /// File that holds the database URL.
    #[arg(long, env = "ORDERLY_DATABASE_URL_FILE", conflicts_with = "database_url")]
    database_url_file: Option<PathBuf>,
    /// Most connections of this process to the database.
    #[arg(long, env = "ORDERLY_DATABASE_POOL_SIZE", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=500))]
    pub database_pool_size: u32,
}

impl DatabaseArgs {
    /// The URL, from wherever it was given.
    pub fn url(&self) -> anyhow::Result<Secret> {
        match (&self.database_url, &self.database_url_file) {
            (Some(url), _) => Ok(url.clone()),
            (None, Some(file)) => {
                let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
                Ok(text.parse()?)
            }
            (None, None) => anyhow::bail!(
                "no database: set --database-url, ORDERLY_DATABASE_URL or ORDERLY_DATABASE_URL_FILE"
            ),
        }
    }
}

/// How a service behaves as a server.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
    /// Listen on addresses that are not loopback although nothing authenticates callers.
    #[arg(long, env = "ORDERLY_ALLOW_UNAUTHENTICATED")]
    pub allow_unauthenticated: bool,
    /// How long shutdown may take, such as 20s.
    #[arg(long, env = "ORDERLY_SHUTDOWN_DEADLINE", default_value = "20s", value_parser = humantime::parse_duration)]
    pub shutdown_deadline: Duration,
}

impl ServerArgs {
    /// Refuses to offer unauthenticated ports to others by accident.
    pub fn check_address(&self, flag: &str, address: SocketAddr) -> Result<(), String> {
        if address.ip().is_loopback() || self.allow_unauthenticated {
            return Ok(());
        }
        Err(format!(
            "{flag} {address} is not loopback and nothing authenticates callers: put a proxy that does in front and \
             set --allow-unauthenticated, or listen on 127.0.0.1"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints() {
        let secret: Secret = "postgres://app:hunter2@db/x\n".parse().expect("infallible");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "[redacted] Some([redacted])");
        assert_eq!(secret.expose(), "postgres://app:hunter2@db/x");
    }

    #[test]
    fn an_address_that_others_reach_needs_consent() {
        let mut server = ServerArgs {
            log: LogArgs { log_format: telemetry::LogFormat::Text },
            allow_unauthenticated: false,
            shutdown_deadline: Duration::from_secs(1),
        };
        let everyone = SocketAddr::from(([0, 0, 0, 0], 1));
        assert!(server.check_address("--listen", SocketAddr::from(([127, 0, 0, 1], 1))).is_ok());
        assert!(server.check_address("--listen", everyone).is_err());
        server.allow_unauthenticated = true;
        assert!(server.check_address("--listen", everyone).is_ok());
    }
}

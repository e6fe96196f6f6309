//! Flags, environment variables and what is wrong with them, found before anything starts.

use std::{fs, net::SocketAddr, path::PathBuf, str::FromStr as _, time::Duration};

use service::{Secret, ServerArgs};
use sqlx::postgres::PgConnectOptions;

/// Publishes the outboxes of services to Kafka, in order per key, losing nothing.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "outbox-relay",
    version,
    about,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: Config,
}

/// What the relay can do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Publish until SIGTERM or SIGINT (the default).
    Run(Config),
    /// Show each outbox: what waits, for how long, and whether a relay has its lease.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// The same flags.
        #[command(flatten)]
        config: Config,
    },
    /// Let a held key go on: the refused event is dropped, or tried again, and what waits behind it is published. That a
    /// key was overtaken is forgotten.
    Release {
        /// Topic, without prefix.
        #[arg(long)]
        topic: String,
        /// Key, as text.
        #[arg(long)]
        key: String,
        /// Try the refused event again instead of dropping it.
        #[arg(long, conflicts_with = "discard")]
        retry: bool,
        /// Drop the refused event although no dead-letter topic has a copy of it.
        #[arg(long)]
        discard: bool,
        /// The same flags; of several outboxes the one that holds the key.
        #[command(flatten)]
        config: Config,
    },
    /// Go on with a topic whose partitions have changed, once every group has read all that was published before.
    Repartition {
        /// Topic, without prefix.
        #[arg(long)]
        topic: String,
        /// A consumer group of the topic, without prefix; repeat for each.
        #[arg(long = "group", required = true)]
        groups: Vec<String>,
        /// The same flags; every outbox that publishes to the topic.
        #[command(flatten)]
        config: Config,
    },
    /// Go on in another PostgreSQL or Kafka cluster, after a restore, a copy, an upgrade by `pg_upgrade` or a move.
    Rebase {
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
        /// The same flags.
        #[command(flatten)]
        config: Config,
    },
    /// Check the configuration, print it without its secrets, and exit (64 when it is wrong).
    CheckConfig(Config),
    /// Ask the running relay whether it is ready; exit 0 when it is, 1 otherwise.
    Healthcheck(Config),
}

/// The flags.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// An outbox and the direct address of its primary; repeat for each.
    #[arg(
        long = "outbox",
        env = "ORDERLY_OUTBOX",
        hide_env_values = true,
        value_name = "NAME=URL",
        value_delimiter = ','
    )]
    outbox: Vec<Secret>,
    /// File with one NAME=URL a line.
    #[arg(long, env = "ORDERLY_OUTBOX_FILE", value_name = "PATH")]
    outbox_file: Option<PathBuf>,
    /// Kafka's bootstrap servers.
    #[arg(long, env = "ORDERLY_KAFKA", value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    pub kafka: String,
    /// Prepended to the name of every topic.
    #[arg(long, env = "ORDERLY_PREFIX", default_value = "")]
    pub prefix: String,
    /// Where /livez, /readyz, /metrics and /version are served.
    #[arg(long, env = "ORDERLY_ADMIN", value_name = "ADDRESS", default_value = "127.0.0.1:9106")]
    pub admin: SocketAddr,
    /// How often drained days are looked for, to be truncated.
    #[arg(long, env = "ORDERLY_RING_INTERVAL", value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub ring_interval: Duration,
    /// Logs, shutdown, exposure.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// One outbox.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name in metrics and logs.
    pub name: String,
    /// Its database.
    pub url: Secret,
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing to do.
    #[error("no outbox is given: use --outbox NAME=postgres://..., or ORDERLY_OUTBOX")]
    None,
    /// The file with the outboxes.
    #[error("the file with the outboxes cannot be read: {path}")]
    File {
        /// As given.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// An outbox without name, or an address that is none. Its value stays unsaid, it may hold a password.
    #[error("outbox number {number} is not NAME=postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    Outbox {
        /// From 1.
        number: usize,
    },
    /// Two of one name.
    #[error("outbox {0} is given twice")]
    Twice(String),
    /// A port that others reach.
    #[error("{0}")]
    Exposed(String),
}

impl Cli {
    /// What to do, and with what.
    pub fn command(self) -> Command {
        self.command.unwrap_or(Command::Run(self.config))
    }
}

impl Command {
    /// The flags, wherever they stand.
    pub fn config(&self) -> &Config {
        match self {
            Self::Run(config)
            | Self::Status { config, .. }
            | Self::Release { config, .. }
            | Self::Repartition { config, .. }
            | Self::Rebase { config, .. }
            | Self::CheckConfig(config)
            | Self::Healthcheck(config) => config,
        }
    }
}

impl Config {
    /// The outboxes, checked.
    pub fn sources(&self) -> Result<Vec<Source>, Error> {
        self.server.check_address("--admin", self.admin).map_err(Error::Exposed)?;
        let mut given: Vec<String> = self.outbox.iter().map(|outbox| outbox.expose().to_owned()).collect();
        if let Some(path) = &self.outbox_file {
            let text =
                fs::read_to_string(path).map_err(|source| Error::File { path: path.clone(), source })?;
            given.extend(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()));
        }
        let mut sources: Vec<Source> = Vec::new();
        for (index, outbox) in given.iter().enumerate() {
            let source = parse(outbox).ok_or(Error::Outbox { number: index + 1 })?;
            if sources.iter().any(|other| other.name == source.name) {
                return Err(Error::Twice(source.name));
            }
            sources.push(source);
        }
        if sources.is_empty() { Err(Error::None) } else { Ok(sources) }
    }
}

fn parse(outbox: &str) -> Option<Source> {
    let (name, url) = outbox.split_once('=')?;
    let valid =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !valid || !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return None;
    }
    PgConnectOptions::from_str(url).ok()?;
    Some(Source { name: name.to_owned(), url: url.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn sources(flags: &[&str]) -> Result<Vec<Source>, Error> {
        let flags = [&["outbox-relay"], flags].concat();
        Cli::try_parse_from(flags).unwrap().command().config().sources()
    }

    #[test]
    fn outboxes_are_named_and_complete() {
        let given =
            sources(&["--outbox", "order=postgres://u:p@h/a", "--outbox", "billing=postgres://u:p@h/b"])
                .unwrap();
        assert_eq!(given.iter().map(|source| source.name.as_str()).collect::<Vec<_>>(), ["order", "billing"]);
        assert!(matches!(sources(&[]), Err(Error::None)));
        for wrong in ["order", "=postgres://h/a", "or der=postgres://h/a", "order=http://h/a"] {
            assert!(matches!(sources(&["--outbox", wrong]), Err(Error::Outbox { number: 1 })), "{wrong}");
        }
        let twice = sources(&["--outbox", "a=postgres://h/a,a=postgres://h/b"]);
        assert!(matches!(twice, Err(Error::Twice(name)) if name == "a"));
    }

    #[test]
    fn no_output_shows_a_password() {
        let cli =
            Cli::try_parse_from(["outbox-relay", "--outbox", "order=postgres://u:hunter2@h/a"]).unwrap();
        assert!(!format!("{cli:?} {:?}", cli.clone().command().config().sources()).contains("hunter2"));
    }

    #[test]
    fn a_subcommand_has_the_flags_and_run_is_the_default() {
        let cli =
            Cli::try_parse_from(["outbox-relay", "status", "--json", "--outbox", "order=postgres://h/a"])
                .unwrap();
        assert!(matches!(cli.command(), Command::Status { json: true, .. }));
        let cli = Cli::try_parse_from(["outbox-relay", "--outbox", "order=postgres://h/a"]).unwrap();
        assert!(matches!(cli.command(), Command::Run(_)));
    }
}

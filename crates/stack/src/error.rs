//! Why a server could not be prepared, started or reached, and what to do about it.

use std::{io, path::PathBuf, time::Duration};

/// Why a server could not be prepared, started or reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused something.
    #[error("could not {action}")]
    Io {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Software that has to be installed.
    #[error("{software} was not found; install Debian's package `{package}`")]
    Missing {
        /// What is missing.
        software: &'static str,
        /// The package that brings it.
        package: &'static str,
    },
    /// A server from an earlier run still uses the data.
    #[error("PostgreSQL with pid {pid} already uses {}; stop it with `kill -INT {pid}`", data.display())]
    InUse {
        /// The process that holds the data.
        pid: u32,
        /// The data.
        data: PathBuf,
    },
    /// The account that PostgreSQL runs as cannot enter a folder above its data.
    #[error("user `{user}` cannot enter {}; allow it with `chmod o+x`, or put the data elsewhere", folder.display())]
    Unreachable {
        /// The account.
        user: &'static str,
        /// The first folder that it cannot enter.
        folder: PathBuf,
    },
    /// The data was made by another major version of PostgreSQL.
    #[error(
        "{} holds data of PostgreSQL {found}, and {installed} is installed; install `postgresql-{found}` or delete the data",
        data.display()
    )]
    OtherVersion {
        /// The data.
        data: PathBuf,
        /// The version that made it.
        found: String,
        /// The newest version that is installed.
        installed: String,
    },
    /// A program or server ended before it had done its work.
    #[error("{program} ended early ({status}); the end of its log:\n{tail}")]
    Ended {
        /// What ended.
        program: &'static str,
        /// How it ended.
        status: String,
        /// The last lines that it wrote.
        tail: String,
    },
    /// A program took too long.
    #[error("{program} was not done within {} s; the end of its log:\n{tail}", within.as_secs())]
    TooSlow {
        /// What was waited for.
        program: &'static str,
        /// How long.
        within: Duration,
        /// The last lines that it wrote.
        tail: String,
    },
    /// Another process holds the lock of an installation.
    #[error("another process was still installing Kafka after {} s; end the holder of {}", within.as_secs(), lock.display())]
    Locked {
        /// How long was waited.
        within: Duration,
        /// The lock file.
        lock: PathBuf,
    },
    /// No PostgreSQL answers at an address.
    #[error("PostgreSQL at {address} did not answer within {} s; look at its log", within.as_secs())]
    PostgresSilent {
        /// Where it should be, without a password.
        address: String,
        /// How long it was asked.
        within: Duration,
        /// The last answer.
        source: sqlx::Error,
    },
    /// PostgreSQL answers, but not to this role, password or database.
    #[error(
        "PostgreSQL at {address} refuses this role, password or database; its data may be older than the password"
    )]
    PostgresRefused {
        /// Where it is, without a password.
        address: String,
        /// Its answer.
        source: sqlx::Error,
    },
    /// The URL of a PostgreSQL server cannot be read. The URL itself may hold a password and is not shown.
    #[error("the PostgreSQL URL cannot be read; give postgres://ROLE:PASSWORD@HOST:PORT/DATABASE")]
    PostgresUrl {
        /// What is wrong with it.
        source: sqlx::Error,
    },
    /// No Kafka answers at an address.
    #[error("Kafka at {address} did not answer within {} s; look at its log", within.as_secs())]
    KafkaSilent {
        /// Where it should be.
        address: String,
        /// How long it was asked.
        within: Duration,
        /// The last answer.
        source: rdkafka::error::KafkaError,
    },
}

impl Error {
    /// For `map_err`: what was tried, in words that follow "could not".
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

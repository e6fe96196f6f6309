//! The one direct PostgreSQL session of an outbox. Poll, cursor and lease share it, so that losing it loses them together.

use std::{str::FromStr, time::Duration};

use sqlx::{Connection, PgConnection, Row as _, postgres::PgConnectOptions};

use crate::config::Source;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A checked session with the identity of its cluster.
#[derive(Debug)]
pub struct Session {
    /// The connection.
    pub connection: PgConnection,
    /// `pg_control_system().system_identifier`.
    pub system_identifier: i64,
    /// The timeline that the server writes.
    pub timeline: i32,
    /// How to connect to the same server once more.
    pub server: Server,
}

/// The one server of a session, which an address may not name for ever.
#[derive(Clone, Debug)]
pub struct Server {
    options: PgConnectOptions,
    /// When it was started. Standbys share everything else.
    started: String,
}

/// Why a session could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is no PostgreSQL URL, or the server refused or did not answer.
    #[error("no session with PostgreSQL")]
    Sql(#[from] sqlx::Error),
    /// Nothing answered in time.
    #[error("PostgreSQL did not accept a connection within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    /// A standby, or a server that refuses to write.
    #[error("the server is a standby or read-only: give the relay the address of the primary")]
    NotPrimary,
    /// Something between the relay and the server hands out server sessions.
    #[error(
        "the session's settings were lost on the way: give the relay a direct address, not a transaction pooler's"
    )]
    Pooler,
}

impl Session {
    /// Connects and checks that this is a direct session with a primary.
    pub async fn open(source: &Source) -> Result<Self, Error> {
        let name = format!("outbox-relay/{}", source.name);
        let options = options(source)?;
        let named = options.clone().application_name(&name);
        let connecting = PgConnection::connect_with(&named);
        let mut connection =
            tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| Error::Timeout)??;
        let row = sqlx::query(include_str!("sql/session.sql")).bind(name).fetch_one(&mut connection).await?;
        if row.try_get("in_recovery")? || row.try_get("read_only")? {
            return Err(Error::NotPrimary);
        }
        if !row.try_get::<bool, _>("direct")? {
            return Err(Error::Pooler);
        }
        let (system_identifier, timeline) = (row.try_get("system_identifier")?, row.try_get("timeline")?);
        let server = Server { options, started: row.try_get("started")? };
        Ok(Self { connection, system_identifier, timeline, server })
    }
}

impl Server {
    /// The options of a further connection; where it leads is not checked.
    pub fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Connects with `options`, made of [`Server::options`]. Fails where another server answers: a standby that lags, or
    /// a new primary, has other rows.
    pub async fn connect(&self, options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
        let mut connection = PgConnection::connect_with(options).await?;
        let started: String =
            sqlx::query_scalar("select extract(epoch from pg_postmaster_start_time())::text")
                .fetch_one(&mut connection)
                .await?;
        if started != self.started {
            return Err(sqlx::Error::Protocol("the address leads to another server than before".into()));
        }
        Ok(connection)
    }
}

/// The connection options of a source, with what the queries rely on. Fails on what is no URL.
fn options(source: &Source) -> Result<PgConnectOptions, sqlx::Error> {
    Ok(PgConnectOptions::from_str(source.url.expose())?.options([
        // Planned once: planning a poll over all leaves takes five times as long as running it. Statistics may say that
        // a leaf is empty, or full, so what would be wrong for either is switched off: index ranges and lookups remain.
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("jit", "off"),
        // Starting workers takes fifty times as long as a poll.
        ("max_parallel_workers_per_gather", "0"),
        ("statement_timeout", "30s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "10s"),
        // A lost cursor write only repeats; lease writes turn it on.
        ("synchronous_commit", "off"),
        ("default_transaction_isolation", "read committed"),
    ]))
}

#[cfg(test)]
mod tests {
    use testkit::Dedicated;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_further_connection_is_to_the_same_server_or_to_none() -> anyhow::Result<()> {
        let mut postgres = Dedicated::postgres().await?;
        let url = format!("{}/postgres", postgres.address());
        let source = Source { name: "orders".into(), url: url.parse()? };
        let server = Session::open(&source).await?.server;
        server.connect(server.options()).await?;
        postgres.stop().await?;
        postgres.start().await?;
        let refused = server.connect(server.options()).await.map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("another server"), "{refused}");
        Ok(())
    }
}

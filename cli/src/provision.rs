//! The roles and databases of the platform, created by the superuser before the services migrate.
//!
//! Everything here may be run again: it creates what is missing and sets what differs. Tables, and the rights on them,
//! belong to each service's migrations.

use anyhow::{Context as _, ensure};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, raw_sql};

use crate::{
    credentials::{AUDIT, Credentials, MONITOR, OPERATOR, RELAY},
    platform::{Database, role_url},
};

/// The oldest PostgreSQL whose `public` schema and snapshot functions the platform relies on.
const OLDEST_VERSION: i32 = 150_000;

/// Serialises two provisioners on one server.
const ADVISORY_LOCK: i64 = 0x6f72_6465_726c_7900;

/// Every role that [`apply`] creates.
#[must_use]
pub fn roles() -> Vec<String> {
    let mut roles = [RELAY, AUDIT, OPERATOR, MONITOR].map(str::to_owned).to_vec();
    roles.extend(Database::ALL.into_iter().flat_map(|database| [database.owner(), database.app()]));
    roles
}

/// A superuser of the server.
#[derive(Clone, Copy)]
pub struct Superuser<'a> {
    /// The server, without a role: `postgres://host:port`.
    pub server: &'a str,
    /// The role.
    pub role: &'a str,
    /// Its password.
    pub password: &'a str,
}

/// Creates the roles with their kept passwords, the databases, and who may connect to them.
///
/// # Errors
/// When the server is older than PostgreSQL 15, the role is no superuser, or a statement fails.
pub async fn apply(superuser: Superuser<'_>, credentials: &Credentials) -> anyhow::Result<()> {
    let mut server = connect(superuser, "postgres").await?;
    check(&mut server, superuser).await?;
    sqlx::query("SELECT pg_advisory_lock($1)").bind(ADVISORY_LOCK).execute(&mut server).await?;
    for role in roles() {
        let password = credentials.password(&role).with_context(|| format!("role {role} has no password"))?;
        create_role(&mut server, &role, password).await.with_context(|| format!("role {role}"))?;
    }
    for database in Database::ALL {
        create_database(&mut server, database)
            .await
            .with_context(|| format!("database {}", database.name()))?;
        let mut inside = connect(superuser, database.name()).await?;
        run(&mut inside, &schema_rights(database)).await?;
        inside.close().await?;
    }
    // Closing the session gives the lock back.
    server.close().await?;
    Ok(())
}

async fn connect(superuser: Superuser<'_>, database: &str) -> anyhow::Result<PgConnection> {
    let url = role_url(superuser.server, superuser.role, superuser.password, database)?;
    PgConnection::connect(&url)
        .await
        .with_context(|| format!("could not connect to {} as {}", superuser.server, superuser.role))
}

async fn check(server: &mut PgConnection, superuser: Superuser<'_>) -> anyhow::Result<()> {
    let (version, is_superuser): (i32, bool) = sqlx::query_as(
        "SELECT current_setting('server_version_num')::int, current_setting('is_superuser')::bool",
    )
    .fetch_one(&mut *server)
    .await?;
    let major = version / 10_000;
    ensure!(version >= OLDEST_VERSION, "PostgreSQL {major} is too old; use version 15 or newer");
    ensure!(
        is_superuser,
        "role {} is no superuser; `up` needs one to create roles and databases",
        superuser.role
    );
    // The statements below hold passwords.
    run(server, "SET log_statement = 'none'; SET log_min_error_statement = 'panic'").await
}

async fn create_role(server: &mut PgConnection, role: &str, password: &str) -> anyhow::Result<()> {
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
        .bind(role)
        .fetch_one(&mut *server)
        .await?;
    if !exists {
        run(server, &format!("CREATE ROLE {role}")).await?;
    }
    let settings = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS";
    run(server, "SET password_encryption = 'scram-sha-256'").await?;
    run(server, &format!("ALTER ROLE {role} {settings} PASSWORD '{password}'")).await?;
    if [AUDIT, MONITOR].contains(&role) {
        run(server, &format!("ALTER ROLE {role} SET default_transaction_read_only = on")).await?;
    }
    if role == MONITOR {
        // Statistics and settings of the server; no row of any table.
        run(server, &format!("GRANT pg_monitor TO {role}")).await?;
    }
    Ok(())
}

async fn create_database(server: &mut PgConnection, database: Database) -> anyhow::Result<()> {
    let (name, owner, app) = (database.name(), database.owner(), database.app());
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(name)
        .fetch_one(&mut *server)
        .await?;
    if !exists {
        run(server, &format!("CREATE DATABASE {name} OWNER {owner} TEMPLATE template0 ENCODING 'UTF8'"))
            .await?;
    }
    run(
        server,
        &format!(
            "ALTER DATABASE {name} OWNER TO {owner};
             REVOKE ALL ON DATABASE {name} FROM PUBLIC;
             GRANT CONNECT ON DATABASE {name} TO {app}, {RELAY}, {AUDIT}, {OPERATOR}, {MONITOR}"
        ),
    )
    .await
}

/// Only the owner creates in `public`; the service and the auditor may look up what its tables grant them.
fn schema_rights(database: Database) -> String {
    format!(
        "REVOKE ALL ON SCHEMA public FROM PUBLIC;
         GRANT USAGE ON SCHEMA public TO {}, {AUDIT}",
        database.app()
    )
}

/// Names are ours and passwords are hexadecimal: neither can carry SQL.
async fn run(connection: &mut PgConnection, sql: &str) -> anyhow::Result<()> {
    raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await?;
    Ok(())
}

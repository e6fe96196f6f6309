//! The schema `outbox`: migrations with a table of their own, and the grants of each role.

use std::collections::HashSet;

use sqlx::{AssertSqlSafe, PgExecutor, PgPool, migrate::Migrator};
use time::OffsetDateTime;

use crate::Error;

/// The roles that get their least privileges from a migration. All must exist.
#[derive(Clone, Copy, Debug)]
pub struct Roles<'a> {
    /// The service itself: may insert events, and ask until when they are published.
    pub app: &'a str,
    /// The relay: reads events, moves the cursor, truncates drained leaves.
    pub relay: &'a str,
    /// Reads everything, changes nothing.
    pub audit: &'a str,
    /// Works through dead letters; has no right in the schema `outbox`.
    pub operator: &'a str,
}

/// Creates or upgrades the schema `outbox`; the pool belongs to the owner of the database. Safe to repeat.
pub async fn migrate(pool: &PgPool, roles: &Roles<'_>) -> Result<(), Error> {
    migrator().run(pool).await?;
    let Roles { app, relay, audit, .. } = *roles;
    let (app, relay, audit) = (quote_identifier(app), quote_identifier(relay), quote_identifier(audit));
    let mut grants = format!(
        "grant usage on schema outbox to {app}, {relay}, {audit};
         grant select on outbox._migrations to {app}, {relay}, {audit};
         grant insert (event_id, topic, partition, key, aggregate_id, sequence, headers, payload) on outbox.event to {app};
         grant usage on sequence outbox.event_id_seq to {app};
         grant execute on function outbox.published_until(text[]) to {app}, {audit};
         grant select on outbox.event to {relay}, {audit};
         grant select, update on outbox.cursor to {relay};
         grant select, insert, update, delete
            on outbox.parked, outbox.hold, outbox.lane, outbox.topic, outbox.overtaken to {relay};
         grant execute on function outbox.rebase() to {relay};
         grant select on outbox.cursor, outbox.parked, outbox.hold, outbox.lane, outbox.topic, outbox.overtaken
            to {audit};"
    );
    for leaf in 0..8 {
        grants.push_str(&format!("grant select, truncate on outbox.event_{leaf} to {relay};"));
    }
    sqlx::raw_sql(AssertSqlSafe(grants)).execute(pool).await?;
    Ok(())
}

/// Names of the outbox migrations that this program knows and the database has not applied.
pub async fn pending(pool: &PgPool) -> Result<Vec<String>, Error> {
    pending_in(pool, &migrator()).await
}

/// Names of a migrator's migrations that the database has not applied, as `<table>: <version> <description>`.
pub async fn pending_in(pool: &PgPool, migrator: &Migrator) -> Result<Vec<String>, Error> {
    let table = migrator.table_name.as_ref();
    let exists: bool =
        sqlx::query_scalar("select to_regclass($1) is not null").bind(table).fetch_one(pool).await?;
    let applied: HashSet<i64> = if exists {
        let versions = format!("select version from {table} where success");
        sqlx::query_scalar(AssertSqlSafe(versions)).fetch_all(pool).await?.into_iter().collect()
    } else {
        HashSet::new()
    };
    let missing = migrator.iter().filter(|migration| !applied.contains(&migration.version));
    Ok(missing.map(|migration| format!("{table}: {} {}", migration.version, migration.description)).collect())
}

/// Until when every event of this outbox is published to these topics, named without prefix: the moment at which the first
/// one was appended that is not, or now.
///
/// What a service has asked for and not published, nobody can have answered. Events that the broker refuses wait for an
/// operator and do not count.
pub async fn published_until(
    executor: impl PgExecutor<'_>,
    topics: &[&str],
) -> Result<OffsetDateTime, Error> {
    Ok(sqlx::query_scalar("select outbox.published_until($1)").bind(topics).fetch_one(executor).await?)
}

/// A role or database name as an SQL identifier.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.dangerous_set_table_name("outbox._migrations");
    migrator.create_schema("outbox");
    migrator
}

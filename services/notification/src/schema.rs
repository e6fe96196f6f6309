//! Migrations of this service's own tables and the grants of each role; the outbox and the inbox bring theirs.

use outbox::{Error, Roles, quote_identifier};
use sqlx::{AssertSqlSafe, PgPool, migrate::Migrator};

static MIGRATOR: Migrator = sqlx::migrate!();

/// Creates or upgrades everything in the database; the pool belongs to its owner. Safe to repeat.
pub async fn migrate(pool: &PgPool, roles: &Roles<'_>) -> Result<(), Error> {
    MIGRATOR.run(pool).await?;
    let (app, audit) = (quote_identifier(roles.app), quote_identifier(roles.audit));
    // The auditor sees that and how customers were told, not where, and no secrets.
    let grants = format!(
        "grant usage on schema public to {app}, {audit};
         grant select on _sqlx_migrations to {app}, {audit};
         grant select, insert, update on settings to {app};
         grant select, insert, update (status, channel, email_address, webhook_url, webhook_secret, attempts,
             first_attempt_at, next_attempt_at, claimed_until, delivered_at, record_topic, record_partition,
             record_offset, record_key, record_headers, record_payload, record_ms, traceparent, tracestate)
             on notifications to {app};
         grant select (customer_id, channel, updated_at) on settings to {audit};
         grant select (notification_id, position, order_id, customer_id, kind, channel, status, subject, body,
             attempts, first_attempt_at, next_attempt_at, claimed_until, created_at, delivered_at, traceparent,
             tracestate) on notifications to {audit};"
    );
    sqlx::raw_sql(AssertSqlSafe(grants)).execute(pool).await?;
    outbox::migrate(pool, roles).await?;
    consumer::migrate(pool, roles).await
}

/// Names of the migrations that this program knows and the database has not applied.
pub async fn pending(pool: &PgPool) -> Result<Vec<String>, Error> {
    let mut pending = outbox::pending_in(pool, &MIGRATOR).await?;
    pending.extend(outbox::pending(pool).await?);
    pending.extend(consumer::pending(pool).await?);
    Ok(pending)
}

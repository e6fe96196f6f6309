//! Migrations of inventory's own tables and the grants of each role; the outbox and the inbox bring theirs.

use outbox::{Error, Roles, quote_identifier};
use sqlx::{AssertSqlSafe, PgPool, migrate::Migrator, postgres::PgPoolOptions};

static MIGRATOR: Migrator = sqlx::migrate!();

/// The index of 0002 is there and of no use where it could not be finished.
const DROP_UNFINISHED: &str = "
    DO $$ BEGIN
        IF EXISTS (SELECT FROM pg_index
                   WHERE indexrelid = to_regclass('reservations_open_idx') AND NOT indisvalid) THEN
            DROP INDEX reservations_open_idx;
        END IF;
    END $$";

/// Creates or upgrades everything in inventory's database; the pool belongs to its owner. Safe to repeat.
pub async fn migrate(pool: &PgPool, roles: &Roles<'_>) -> Result<(), Error> {
    // An index takes as long as its table is large, whatever a statement of the service may take.
    let unbounded = pool.connect_options().as_ref().clone().options([("statement_timeout", "0")]);
    let unbounded = PgPoolOptions::new().max_connections(1).connect_with(unbounded).await?;
    sqlx::raw_sql(DROP_UNFINISHED).execute(&unbounded).await?;
    MIGRATOR.run(&unbounded).await?;
    unbounded.close().await;
    let (app, audit) = (quote_identifier(roles.app), quote_identifier(roles.audit));
    // Nothing is ever deleted, and what was counted in or out is not rewritten.
    let grants = format!(
        "GRANT SELECT ON _sqlx_migrations TO {app}, {audit};
         GRANT SELECT, INSERT, UPDATE ON products, stock, reservations TO {app};
         GRANT SELECT, INSERT ON adjustments TO {app};
         GRANT SELECT ON products, stock, adjustments, reservations TO {audit};"
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

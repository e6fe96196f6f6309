//! The schema `inbox`: migrations with a table of their own, and the grants of each role.

use outbox::{Error, Roles, quote_identifier};
use sqlx::{AssertSqlSafe, PgPool, migrate::Migrator};

/// Creates or upgrades the schema `inbox`; the pool belongs to the owner of the database. Safe to repeat.
pub async fn migrate(pool: &PgPool, roles: &Roles<'_>) -> Result<(), Error> {
    migrator().run(pool).await?;
    let [app, audit, operator] = [roles.app, roles.audit, roles.operator].map(quote_identifier);
    let grants = format!(
        "grant usage on schema inbox to {app}, {audit}, {operator};
         grant select on inbox._migrations to {app}, {audit};
         grant select, insert on inbox.message to {app};
         grant update (seq, processed_at) on inbox.message to {app};
         grant usage on sequence inbox.processing_seq to {app};
         grant execute on function inbox.clear_expired() to {app};
         grant select, insert, update on inbox.fence, inbox.dead_letter to {app};
         grant select, insert, update, delete on inbox.key_hold to {app};
         grant select, update on inbox.replay to {app};
         grant insert on inbox.audit to {app}, {operator};
         grant execute on function inbox.accept_offsets(text, text, text, text) to {operator};
         grant select on inbox.dead_letter, inbox.key_hold, inbox.replay, inbox.audit to {operator};
         grant update (state, ended_at, replay) on inbox.dead_letter to {operator};
         grant update (head), delete on inbox.key_hold to {operator};
         grant insert, update (state, words, next_at, ended_at) on inbox.replay to {operator};
         grant select on inbox.message, inbox.fence, inbox.dead_letter, inbox.key_hold, inbox.replay, inbox.audit to {audit};"
    );
    sqlx::raw_sql(AssertSqlSafe(grants)).execute(pool).await?;
    Ok(())
}

/// Names of the inbox migrations that this program knows and the database has not applied.
pub async fn pending(pool: &PgPool) -> Result<Vec<String>, Error> {
    outbox::pending_in(pool, &migrator()).await
}

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.dangerous_set_table_name("inbox._migrations");
    migrator.create_schema("inbox");
    migrator
}

//! What a role of a database may do, and what it may not.

use anyhow::{Context as _, ensure};
use sqlx::{AssertSqlSafe, PgPool};

/// What PostgreSQL answers a role that lacks a right.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// Runs each statement in a transaction that is rolled back.
///
/// # Errors
/// Names the first statement that is refused.
pub async fn allowed(pool: &PgPool, statements: &[&str]) -> anyhow::Result<()> {
    for sql in statements {
        let mut transaction = pool.begin().await?;
        let done = sqlx::raw_sql(AssertSqlSafe(*sql)).execute(&mut *transaction).await;
        done.with_context(|| (*sql).to_owned())?;
    }
    Ok(())
}

/// Runs each statement and wants all of them refused for the lack of a right.
///
/// # Errors
/// Names the first statement that is not.
pub async fn refused(pool: &PgPool, statements: &[&str]) -> anyhow::Result<()> {
    for sql in statements {
        let mut transaction = pool.begin().await?;
        let done = sqlx::raw_sql(AssertSqlSafe(*sql)).execute(&mut *transaction).await;
        let error = done.err().with_context(|| format!("{sql} is allowed"))?;
        let code = error.as_database_error().and_then(|error| error.code());
        ensure!(code.as_deref() == Some(INSUFFICIENT_PRIVILEGE), "{sql}: {error}");
    }
    Ok(())
}

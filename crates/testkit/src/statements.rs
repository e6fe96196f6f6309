//! Every SQL statement of a service is checked against its migrated database.

use std::{fs, path::Path};

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Executor as _, PgPool, SqlSafeStr as _};

/// Prepares every `.sql` file of a folder as the given role; returns how many there were.
///
/// # Errors
/// Names the first statement that PostgreSQL refuses, and why.
pub async fn check_statements(pool: &PgPool, folder: &Path) -> anyhow::Result<usize> {
    let mut checked = 0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            let sql = fs::read_to_string(&path)?;
            let mut connection = pool.acquire().await?;
            connection
                .prepare(AssertSqlSafe(sql).into_sql_str())
                .await
                .with_context(|| format!("{} is refused", path.display()))?;
            checked += 1;
        }
    }
    Ok(checked)
}

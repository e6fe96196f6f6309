//! Rebuilds again what has changed since it was rebuilt.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{bound::Bound, fold::Fold};

/// Orders that are rebuilt by one statement.
const BATCH: usize = 1_000;

/// What a round has found.
pub struct Moved {
    /// Orders that were rebuilt again.
    pub orders: Vec<Uuid>,
    /// How many of them have more events than before. The others differ for good: their live row is damaged.
    pub changed: usize,
}

/// Rebuilds every order once whose version in the view is not the rebuilt one.
pub async fn round(connection: &mut PgConnection, bound: Bound) -> anyhow::Result<Moved> {
    bound.set(connection).await?;
    let moved: HashMap<Uuid, Option<i32>> = sqlx::query_as(include_str!("../sql/rebuild/moved.sql"))
        .fetch_all(&mut *connection)
        .await?
        .into_iter()
        .collect();
    let orders: Vec<Uuid> = moved.keys().copied().collect();
    let mut changed = 0;
    for batch in orders.chunks(BATCH) {
        bound.set(connection).await?;
        let rows = sqlx::query(include_str!("../sql/rebuild/histories.sql"))
            .bind(batch)
            .fetch_all(&mut *connection)
            .await?;
        let mut fold = Fold::default();
        for row in &rows {
            fold.add(row)?;
        }
        fold.end();
        changed += fold.versions().filter(|(order_id, version)| moved[order_id] != Some(*version)).count();
        bound.set(connection).await?;
        sqlx::query("delete from orders_rebuilt where order_id = any($1)")
            .bind(batch)
            .execute(&mut *connection)
            .await?;
        bound.set(connection).await?;
        fold.write(connection).await?;
    }
    Ok(Moved { orders, changed })
}

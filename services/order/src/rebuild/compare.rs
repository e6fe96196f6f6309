//! Compares the view with what was rebuilt, value by value.

use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::bound::Bound;

/// How many differences are told one by one.
const TOLD: i64 = 1_000;

/// A value of the view that is not what the order's history makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
pub struct Difference {
    /// Of which order.
    pub order_id: Uuid,
    /// Of which column; `order_id` where the whole row is missing or has no history.
    pub column: String,
    /// In the view.
    pub live: Option<String>,
    /// As the history has it.
    pub rebuilt: Option<String>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Orders with a difference.
    pub orders: u64,
    /// Differences.
    pub values: u64,
    /// The first of them, by order.
    pub differences: Vec<Difference>,
}

/// Makes room for what is found.
pub async fn prepare(connection: &mut PgConnection) -> sqlx::Result<()> {
    let found =
        "create temporary table found_differences (order_id uuid, name text, live text, rebuilt text)";
    sqlx::query(found).execute(connection).await?;
    Ok(())
}

/// Compares all orders.
pub async fn all(connection: &mut PgConnection) -> sqlx::Result<()> {
    find(connection, None).await
}

/// Compares these orders again.
pub async fn again(connection: &mut PgConnection, orders: &[Uuid], bound: Bound) -> sqlx::Result<()> {
    bound.set(connection).await?;
    sqlx::query("delete from found_differences where order_id = any($1)")
        .bind(orders)
        .execute(&mut *connection)
        .await?;
    bound.set(connection).await?;
    find(connection, Some(orders)).await
}

/// What the last comparison of each order has found.
pub async fn found(connection: &mut PgConnection) -> sqlx::Result<Found> {
    let counts = "select count(distinct order_id), count(*) from found_differences";
    let (orders, values): (i64, i64) = sqlx::query_as(counts).fetch_one(&mut *connection).await?;
    let differences = sqlx::query_as(
        "select order_id, name as \"column\", live, rebuilt from found_differences order by order_id, name limit $1",
    );
    Ok(Found {
        orders: orders.unsigned_abs(),
        values: values.unsigned_abs(),
        differences: differences.bind(TOLD).fetch_all(connection).await?,
    })
}

async fn find(connection: &mut PgConnection, orders: Option<&[Uuid]>) -> sqlx::Result<()> {
    sqlx::query(include_str!("../sql/rebuild/differences.sql")).bind(orders).execute(connection).await?;
    Ok(())
}

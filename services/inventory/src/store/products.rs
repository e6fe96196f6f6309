//! Products, and what was counted in and out of them.

use std::time::Duration;

use sqlx::{FromRow, PgConnection, PgExecutor, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::decode;
use crate::domain::{Money, Product, ProductId};

/// Which products to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those whose name or id contains this, in upper or lower case.
    pub query: String,
    /// Those too that are no longer sold.
    pub show_archived: bool,
}

/// Units that were counted in or out.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Adjustment {
    /// The request that counted.
    #[sqlx(rename = "adjustment_id")]
    pub id: Uuid,
    /// Of which product.
    #[sqlx(try_from = "String")]
    pub product_id: ProductId,
    /// In (positive) or out.
    pub delta: i64,
    /// Why.
    pub reason: String,
}

/// Inserts a product as its first version, and sets its times; false where its id is taken.
pub async fn insert(connection: &mut PgConnection, product: &mut Product) -> sqlx::Result<bool> {
    let created: Option<OffsetDateTime> = sqlx::query_scalar(include_str!("../sql/insert_product.sql"))
        .bind(product.id.as_str())
        .bind(&product.name)
        .bind(&product.price.currency)
        .bind(product.price.minor)
        .bind(product.archived)
        .bind(product.version)
        .fetch_optional(connection)
        .await?;
    let Some(at) = created else { return Ok(false) };
    (product.created_at, product.updated_at) = (at, at);
    Ok(true)
}

/// Reads one product.
pub async fn find(executor: impl PgExecutor<'_>, product_id: &ProductId) -> sqlx::Result<Option<Product>> {
    sqlx::query_as(include_str!("../sql/find_product.sql"))
        .bind(product_id.as_str())
        .fetch_optional(executor)
        .await
}

/// Reads one product and holds its row until the transaction ends; every writer of a product starts here.
pub async fn lock(connection: &mut PgConnection, product_id: &ProductId) -> sqlx::Result<Option<Product>> {
    sqlx::query_as(include_str!("../sql/lock_product.sql"))
        .bind(product_id.as_str())
        .fetch_optional(connection)
        .await
}

/// Writes a locked product's next version over `version`, and sets when.
pub async fn save(connection: &mut PgConnection, version: i32, product: &mut Product) -> sqlx::Result<()> {
    product.updated_at = sqlx::query_scalar(include_str!("../sql/save_product.sql"))
        .bind(product.id.as_str())
        .bind(version)
        .bind(&product.name)
        .bind(&product.price.currency)
        .bind(product.price.minor)
        .bind(product.archived)
        .bind(product.version)
        .fetch_one(connection)
        .await?;
    Ok(())
}

/// At most `limit` products by id, those after `after`.
pub async fn list(
    executor: impl PgExecutor<'_>,
    filter: &Filter,
    after: Option<&ProductId>,
    limit: i64,
) -> sqlx::Result<Vec<Product>> {
    sqlx::query_as(include_str!("../sql/list_products.sql"))
        .bind(after.map(ProductId::as_str))
        .bind(&filter.query)
        .bind(filter.show_archived)
        .bind(limit)
        .fetch_all(executor)
        .await
}

/// Makes the next version of at most `limit` products that were last announced so long ago. Their rows stay locked.
pub async fn renew(
    connection: &mut PgConnection,
    announced_before: Duration,
    limit: i64,
) -> sqlx::Result<Vec<Product>> {
    sqlx::query_as(include_str!("../sql/announce.sql"))
        .bind(announced_before.as_secs_f64())
        .bind(limit)
        .fetch_all(connection)
        .await
}

/// Inserts an adjustment; false where its request was made before.
pub async fn insert_adjustment(connection: &mut PgConnection, adjustment: &Adjustment) -> sqlx::Result<bool> {
    let done = sqlx::query(include_str!("../sql/insert_adjustment.sql"))
        .bind(adjustment.id)
        .bind(adjustment.product_id.as_str())
        .bind(adjustment.delta)
        .bind(&adjustment.reason)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Reads one adjustment.
pub async fn find_adjustment(connection: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Adjustment>> {
    sqlx::query_as(include_str!("../sql/find_adjustment.sql")).bind(id).fetch_optional(connection).await
}

impl FromRow<'_, PgRow> for Product {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get::<&str, _>("product_id")?.parse().map_err(decode)?,
            name: row.try_get("name")?,
            price: Money { currency: row.try_get("currency")?, minor: row.try_get("price_minor")? },
            archived: row.try_get("archived")?,
            version: row.try_get("version")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

//! Buckets of units.

use sqlx::{FromRow, PgConnection, PgExecutor, Row, postgres::PgRow};

use super::decode;
use crate::domain::{BUCKETS, Item, Ledger, Move, ProductId, Stock};

/// What there is of one item, as far as it can be seen without waiting.
#[derive(Clone, Debug)]
pub struct Sight {
    /// Whether the product is there and not archived.
    pub sold: bool,
    /// Available in the order's own bucket, which is locked.
    pub own: i64,
    /// Available in all buckets.
    pub available: i64,
}

/// A bucket that is locked.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Whose units.
    pub product_id: ProductId,
    /// Which of its buckets.
    pub bucket: i16,
    /// Units in it that are not reserved.
    pub available: i64,
}

/// Makes the buckets of a new product.
pub async fn insert(
    connection: &mut PgConnection,
    product_id: &ProductId,
    available: &[i64],
) -> sqlx::Result<()> {
    sqlx::query(include_str!("../sql/insert_stock.sql"))
        .bind(product_id.as_str())
        .bind((0..BUCKETS).collect::<Vec<_>>())
        .bind(available)
        .execute(connection)
        .await?;
    Ok(())
}

/// The stock of one product.
pub async fn find(executor: impl PgExecutor<'_>, product_id: &ProductId) -> sqlx::Result<Option<Stock>> {
    let found: Option<(i64, i64)> = sqlx::query_as(include_str!("../sql/find_stock.sql"))
        .bind(product_id.as_str())
        .fetch_optional(executor)
        .await?;
    Ok(found.map(|(available, reserved)| Stock { available, reserved }))
}

/// The stock of one product, whose buckets are all held until the transaction ends.
pub async fn lock(connection: &mut PgConnection, product_id: &ProductId) -> sqlx::Result<Option<Stock>> {
    let buckets: Vec<(i64, i64)> = sqlx::query_as(include_str!("../sql/lock_stock.sql"))
        .bind(product_id.as_str())
        .fetch_all(connection)
        .await?;
    let sum = |stock: Stock, (available, reserved): (i64, i64)| Stock {
        available: stock.available + available,
        reserved: stock.reserved + reserved,
    };
    Ok((!buckets.is_empty()).then(|| buckets.into_iter().fold(Stock::default(), sum)))
}

/// Reserves every item in one bucket, or nothing. False where the bucket has too little, or a product is not sold.
pub async fn take(connection: &mut PgConnection, bucket: i16, items: &[Item]) -> sqlx::Result<bool> {
    let held: Vec<String> = sqlx::query_scalar(include_str!("../sql/take.sql"))
        .bind(bucket)
        .bind(ids(items))
        .bind(quantities(items))
        .fetch_all(&mut *connection)
        .await?;
    if held.len() == items.len() {
        return Ok(true);
    }
    let part = items.iter().filter(|item| held.iter().any(|id| id == item.product_id.as_str()));
    let part: Vec<Item> = part.cloned().collect();
    if !part.is_empty() {
        settle(connection, bucket, &part, (1, -1)).await?;
    }
    Ok(false)
}

/// What there is of each item, in their order.
pub async fn look(connection: &mut PgConnection, bucket: i16, items: &[Item]) -> sqlx::Result<Vec<Sight>> {
    let rows =
        sqlx::query(include_str!("../sql/look.sql")).bind(bucket).bind(ids(items)).fetch_all(connection);
    let sight = |row: &PgRow| {
        Ok(Sight {
            sold: row.try_get("sold")?,
            own: row.try_get("own")?,
            available: row.try_get("available")?,
        })
    };
    rows.await?.iter().map(sight).collect()
}

/// Locks `own` and the buckets that have something to give, by product and bucket; of those that another
/// transaction is at only if it is to `wait`.
pub async fn lock_buckets(
    connection: &mut PgConnection,
    own: i16,
    items: &[Item],
    wait: bool,
) -> sqlx::Result<Vec<Bucket>> {
    let sql = if wait {
        include_str!("../sql/lock_buckets.sql")
    } else {
        include_str!("../sql/lock_free_buckets.sql")
    };
    sqlx::query_as(sql).bind(own).bind(ids(items)).fetch_all(connection).await
}

/// Writes what is available in locked buckets.
pub async fn put(connection: &mut PgConnection, buckets: &[Bucket]) -> sqlx::Result<()> {
    let ids: Vec<&str> = buckets.iter().map(|bucket| bucket.product_id.as_str()).collect();
    let numbers: Vec<i16> = buckets.iter().map(|bucket| bucket.bucket).collect();
    let available: Vec<i64> = buckets.iter().map(|bucket| bucket.available).collect();
    let done = sqlx::query(include_str!("../sql/put.sql"))
        .bind(ids)
        .bind(numbers)
        .bind(available)
        .execute(connection)
        .await?;
    if done.rows_affected() == buckets.len() as u64 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// Moves the units of a reservation: `available` and `reserved` of each are added, or taken away where negative.
pub async fn settle(
    connection: &mut PgConnection,
    bucket: i16,
    items: &[Item],
    (available, reserved): (i64, i64),
) -> sqlx::Result<()> {
    let done = sqlx::query(include_str!("../sql/settle.sql"))
        .bind(bucket)
        .bind(ids(items))
        .bind(quantities(items))
        .bind(available)
        .bind(reserved)
        .execute(connection)
        .await?;
    if done.rows_affected() == items.len() as u64 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// Locks these buckets, by product and bucket, and enters them; none may be named twice. Products that are not there are
/// not entered.
pub async fn lock_places(
    connection: &mut PgConnection,
    places: impl IntoIterator<Item = (&ProductId, i16)>,
) -> sqlx::Result<Ledger> {
    let (ids, buckets): (Vec<&str>, Vec<i16>) =
        places.into_iter().map(|(product_id, bucket)| (product_id.as_str(), bucket)).unzip();
    let mut ledger = Ledger::default();
    if ids.is_empty() {
        return Ok(ledger);
    }
    let rows = sqlx::query(include_str!("../sql/lock_places.sql")).bind(ids).bind(buckets);
    for row in rows.fetch_all(connection).await? {
        let Bucket { product_id, bucket, available } = Bucket::from_row(&row)?;
        ledger.enter(product_id, row.try_get("sold")?, bucket, available);
    }
    Ok(ledger)
}

/// What all buckets of these products hold, as far as it can be seen without waiting.
pub async fn see(connection: &mut PgConnection, product_ids: &[ProductId]) -> sqlx::Result<Vec<Bucket>> {
    let ids: Vec<&str> = product_ids.iter().map(ProductId::as_str).collect();
    sqlx::query_as(include_str!("../sql/see_buckets.sql")).bind(ids).fetch_all(connection).await
}

/// Moves units in locked buckets, of which none may be named twice.
pub async fn move_units(connection: &mut PgConnection, moves: &[Move]) -> sqlx::Result<()> {
    let done = sqlx::query(include_str!("../sql/move_units.sql"))
        .bind(moves.iter().map(|moved| moved.product_id.as_str()).collect::<Vec<_>>())
        .bind(moves.iter().map(|moved| moved.bucket).collect::<Vec<_>>())
        .bind(moves.iter().map(|moved| moved.available).collect::<Vec<_>>())
        .bind(moves.iter().map(|moved| moved.reserved).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    if done.rows_affected() == moves.len() as u64 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

fn ids(items: &[Item]) -> Vec<&str> {
    items.iter().map(|item| item.product_id.as_str()).collect()
}

fn quantities(items: &[Item]) -> Vec<i64> {
    items.iter().map(|item| item.quantity).collect()
}

impl FromRow<'_, PgRow> for Bucket {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            product_id: row.try_get::<&str, _>("product_id")?.parse().map_err(decode)?,
            bucket: row.try_get("bucket")?,
            available: row.try_get("available")?,
        })
    }
}

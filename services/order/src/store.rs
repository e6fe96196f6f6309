//! Orders in PostgreSQL: free functions over a connection, so that they compose in one transaction.

mod names;
mod rows;

use std::collections::HashMap;

use serde_json::Value;
use sqlx::{FromRow, PgConnection, Row, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{Event, Money, Offer, Order, PaymentToken, Status};

/// A page ends before its items, as JSON, have more bytes than this, unless they are one order's. A client's library
/// takes 4 MiB.
const MAX_PAGE_BYTES: i64 = 2 * 1024 * 1024;

/// An order as it is stored.
#[derive(Clone, Debug)]
pub struct StoredOrder {
    /// The order.
    pub order: Order,
    /// When it was accepted.
    pub created_at: OffsetDateTime,
    /// When its last event happened.
    pub updated_at: OffsetDateTime,
    /// Until when the next answer is waited for.
    pub deadline: Option<OffsetDateTime>,
}

/// An event as it is stored.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// Position in the order's history, from 1.
    pub version: i32,
    /// What happened.
    pub event: Event,
    /// When.
    pub occurred_at: OffsetDateTime,
}

/// The id under which a caller repeats a request, with the hash of what was asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// AIP-155.
    pub id: Uuid,
    /// SHA-256 of the request.
    pub hash: Vec<u8>,
}

/// Which orders to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this customer's.
    pub customer_id: Option<String>,
    /// Only these.
    pub status: Option<Status>,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its orders, the newest first, and the one after them where the list goes on.
    pub orders: Vec<StoredOrder>,
    /// How many orders the page has.
    pub size: i64,
}

/// Inserts a new order; false where its request id has been used by this customer.
pub async fn insert(
    connection: &mut PgConnection,
    stored: &StoredOrder,
    token: &PaymentToken,
    request: Option<&Request>,
) -> sqlx::Result<bool> {
    let order = &stored.order;
    let inserted = sqlx::query(include_str!("sql/insert_order.sql"))
        .bind(order.id)
        .bind(&order.customer_id)
        .bind(order.status.name())
        .bind(order.version)
        .bind(Json(&order.items))
        .bind(&order.total.currency)
        .bind(order.total.minor)
        .bind(order.payment_id)
        .bind(order.stock.name())
        .bind(order.payment.name())
        .bind(token.expose())
        .bind(request.map(|request| request.id))
        .bind(request.map(|request| &request.hash))
        .bind(stored.deadline)
        .bind(stored.created_at)
        .execute(connection)
        .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Writes an order's new state over an older version of it; fails where that is not what is stored.
pub async fn update(connection: &mut PgConnection, stored: &StoredOrder, before: i32) -> sqlx::Result<()> {
    let order = &stored.order;
    let updated = sqlx::query(include_str!("sql/update_order.sql"))
        .bind(order.id)
        .bind(before)
        .bind(order.status.name())
        .bind(order.reason.map(|reason| reason.name()))
        .bind(order.attention.map(|reason| reason.name()))
        .bind(order.version)
        .bind(order.stock.name())
        .bind(order.payment.name())
        .bind(order.shipment.as_ref().map(Json))
        .bind(order.outcome.map(|outcome| outcome.name()))
        .bind(order.repeats)
        .bind(stored.deadline)
        .bind(stored.updated_at)
        .execute(connection)
        .await?;
    if updated.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// Appends events. One whose version is there already fails: two writers of one version cannot both commit.
pub async fn append(
    connection: &mut PgConnection,
    order_id: Uuid,
    events: &[StoredEvent],
) -> sqlx::Result<()> {
    let versions: Vec<i32> = events.iter().map(|stored| stored.version).collect();
    let names: Vec<&str> = events.iter().map(|stored| stored.event.name()).collect();
    let data: Vec<Json<Value>> = events
        .iter()
        .map(|stored| stored.event.data().map(Json).map_err(|error| sqlx::Error::Encode(error.into())))
        .collect::<sqlx::Result<_>>()?;
    let times: Vec<OffsetDateTime> = events.iter().map(|stored| stored.occurred_at).collect();
    sqlx::query(include_str!("sql/append_events.sql"))
        .bind(order_id)
        .bind(versions)
        .bind(names)
        .bind(Event::SCHEMA)
        .bind(data)
        .bind(times)
        .execute(connection)
        .await?;
    Ok(())
}

/// Reads an order.
pub async fn get(connection: &mut PgConnection, order_id: Uuid) -> sqlx::Result<Option<StoredOrder>> {
    sqlx::query_as(include_str!("sql/get_order.sql")).bind(order_id).fetch_optional(connection).await
}

/// Reads an order and locks it until the transaction ends, with its payment token as long as that is kept.
pub async fn lock(
    connection: &mut PgConnection,
    order_id: Uuid,
) -> sqlx::Result<Option<(StoredOrder, Option<PaymentToken>)>> {
    let row =
        sqlx::query(include_str!("sql/lock_order.sql")).bind(order_id).fetch_optional(connection).await?;
    let Some(row) = row else { return Ok(None) };
    let token: Option<String> = row.try_get("payment_token")?;
    Ok(Some((StoredOrder::from_row(&row)?, token.map(PaymentToken::new))))
}

/// The order that a request id of this customer has made, and the hash of that request.
pub async fn find_request(
    connection: &mut PgConnection,
    customer_id: &str,
    request_id: Uuid,
) -> sqlx::Result<Option<(StoredOrder, Vec<u8>)>> {
    let row = sqlx::query(include_str!("sql/find_request.sql"))
        .bind(customer_id)
        .bind(request_id)
        .fetch_optional(connection)
        .await?;
    row.map(|row| Ok((StoredOrder::from_row(&row)?, row.try_get("request_hash")?))).transpose()
}

/// Lists orders before an id, the newest first: at most `limit`, and fewer where their items fill the page
/// (`MAX_PAGE_BYTES`).
pub async fn list(
    connection: &mut PgConnection,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Page> {
    let rows = sqlx::query(include_str!("sql/list_orders.sql"))
        .bind(&filter.customer_id)
        .bind(filter.status.map(Status::name))
        .bind(before)
        .bind(limit)
        .bind(MAX_PAGE_BYTES)
        .fetch_all(connection)
        .await?;
    let mut page = Page { orders: Vec::with_capacity(rows.len()), size: 0 };
    for row in &rows {
        page.orders.push(StoredOrder::from_row(row)?);
        page.size += i64::from(row.try_get::<bool, _>("fits")?);
    }
    Ok(page)
}

/// The whole history of an order, the first event first.
pub async fn history(connection: &mut PgConnection, order_id: Uuid) -> sqlx::Result<Vec<StoredEvent>> {
    sqlx::query_as(include_str!("sql/history.sql")).bind(order_id).fetch_all(connection).await
}

/// Locks at most `limit` orders whose deadline has passed at `horizon`, which nobody else has locked.
pub async fn lock_overdue(
    connection: &mut PgConnection,
    horizon: OffsetDateTime,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(include_str!("sql/lock_overdue.sql"))
        .bind(horizon)
        .bind(limit)
        .fetch_all(connection)
        .await
}

/// What is known of these products.
pub async fn offers(
    connection: &mut PgConnection,
    product_ids: &[&str],
) -> sqlx::Result<HashMap<String, Offer>> {
    let rows: Vec<(String, String, i64, bool)> = sqlx::query_as(
        "select product_id, currency, price_minor, archived from products where product_id = any($1)",
    )
    .bind(product_ids)
    .fetch_all(connection)
    .await?;
    let offers = rows.into_iter().map(|(product_id, currency, minor, archived)| {
        (product_id, Offer { price: Money { currency, minor }, archived })
    });
    Ok(offers.collect())
}

/// Takes a product in, unless the same or a newer version of it is known.
pub async fn offer(
    connection: &mut PgConnection,
    product_id: &str,
    name: &str,
    version: i32,
    offer: &Offer,
) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/upsert_product.sql"))
        .bind(product_id)
        .bind(name)
        .bind(version)
        .bind(&offer.price.currency)
        .bind(offer.price.minor)
        .bind(offer.archived)
        .execute(connection)
        .await?;
    Ok(())
}

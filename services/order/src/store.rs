//! Orders in PostgreSQL: free functions over a connection, so that they compose in one transaction.

mod names;
mod rows;

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use sqlx::{FromRow, PgConnection, Row, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{Event, Money, Offer, Order, Outcome, PaymentToken, Reason, Shipment, Status};

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

/// The orders in a status in which something is still to come.
#[derive(Clone, Debug, FromRow)]
pub struct Open {
    /// As it is stored.
    pub status: String,
    /// How many there are.
    pub orders: i64,
    /// How long ago the last event of the one happened that has waited longest.
    pub oldest_seconds: f64,
}

/// Inserts new orders, and returns the ids of those whose request id has not been used by their customer.
pub async fn insert(
    connection: &mut PgConnection,
    new: &[(&StoredOrder, &PaymentToken, Option<&Request>)],
) -> sqlx::Result<HashSet<Uuid>> {
    fn column<'n, T>(
        new: &[(&'n StoredOrder, &PaymentToken, Option<&Request>)],
        value: impl Fn(&'n StoredOrder) -> T,
    ) -> Vec<T> {
        new.iter().map(|(stored, ..)| value(stored)).collect()
    }
    let tokens: Vec<&str> = new.iter().map(|(_, token, _)| token.expose()).collect();
    let request_ids: Vec<Option<Uuid>> =
        new.iter().map(|(.., request)| request.map(|request| request.id)).collect();
    let hashes: Vec<Option<&[u8]>> =
        new.iter().map(|(.., request)| request.map(|request| request.hash.as_slice())).collect();
    let inserted: Vec<Uuid> = sqlx::query_scalar(include_str!("sql/insert_orders.sql"))
        .bind(column(new, |stored| stored.order.id))
        .bind(column(new, |stored| stored.order.customer_id.as_str()))
        .bind(column(new, |stored| stored.order.status.name()))
        .bind(column(new, |stored| stored.order.version))
        .bind(column(new, |stored| Json(&stored.order.items)))
        .bind(column(new, |stored| stored.order.total.currency.as_str()))
        .bind(column(new, |stored| stored.order.total.minor))
        .bind(column(new, |stored| stored.order.payment_id))
        .bind(column(new, |stored| stored.order.stock.name()))
        .bind(column(new, |stored| stored.order.payment.name()))
        .bind(tokens)
        .bind(request_ids)
        .bind(hashes)
        .bind(column(new, |stored| stored.deadline))
        .bind(column(new, |stored| stored.created_at))
        .fetch_all(connection)
        .await?;
    Ok(inserted.into_iter().collect())
}

/// Writes new states, each over the version that is stored; fails where one is not.
pub async fn update(connection: &mut PgConnection, changed: &[(&StoredOrder, i32)]) -> sqlx::Result<()> {
    fn column<T>(changed: &[(&StoredOrder, i32)], value: impl Fn(&StoredOrder) -> T) -> Vec<T> {
        changed.iter().map(|(stored, _)| value(stored)).collect()
    }
    let before: Vec<i32> = changed.iter().map(|(_, before)| *before).collect();
    let shipments: Vec<Option<Json<&Shipment>>> =
        changed.iter().map(|(stored, _)| stored.order.shipment.as_ref().map(Json)).collect();
    let updated = sqlx::query(include_str!("sql/update_orders.sql"))
        .bind(column(changed, |stored| stored.order.id))
        .bind(before)
        .bind(column(changed, |stored| stored.order.status.name()))
        .bind(column(changed, |stored| stored.order.reason.map(Reason::name)))
        .bind(column(changed, |stored| stored.order.attention.map(Reason::name)))
        .bind(column(changed, |stored| stored.order.version))
        .bind(column(changed, |stored| stored.order.stock.name()))
        .bind(column(changed, |stored| stored.order.payment.name()))
        .bind(shipments)
        .bind(column(changed, |stored| stored.order.outcome.map(Outcome::name)))
        .bind(column(changed, |stored| stored.order.repeats))
        .bind(column(changed, |stored| stored.deadline))
        .bind(column(changed, |stored| stored.updated_at))
        .execute(connection)
        .await?;
    if updated.rows_affected() == changed.len() as u64 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// Appends events. One whose version is there already fails: two writers of one version cannot both commit.
pub async fn append(connection: &mut PgConnection, events: &[(Uuid, StoredEvent)]) -> sqlx::Result<()> {
    fn column<'e, T>(events: &'e [(Uuid, StoredEvent)], value: impl Fn(&'e StoredEvent) -> T) -> Vec<T> {
        events.iter().map(|(_, stored)| value(stored)).collect()
    }
    let order_ids: Vec<Uuid> = events.iter().map(|(order_id, _)| *order_id).collect();
    let data: Vec<Json<Value>> = events
        .iter()
        .map(|(_, stored)| stored.event.data().map(Json).map_err(|error| sqlx::Error::Encode(error.into())))
        .collect::<sqlx::Result<_>>()?;
    sqlx::query(include_str!("sql/append_events.sql"))
        .bind(order_ids)
        .bind(column(events, |stored| stored.version))
        .bind(column(events, |stored| stored.event.name()))
        .bind(Event::SCHEMA)
        .bind(data)
        .bind(column(events, |stored| stored.occurred_at))
        .execute(connection)
        .await?;
    Ok(())
}

/// Reads an order.
pub async fn get(connection: &mut PgConnection, order_id: Uuid) -> sqlx::Result<Option<StoredOrder>> {
    sqlx::query_as(include_str!("sql/get_order.sql")).bind(order_id).fetch_optional(connection).await
}

/// Reads orders and locks them until the transaction ends, each with its payment token as long as that is kept.
pub async fn lock(
    connection: &mut PgConnection,
    order_ids: &[Uuid],
) -> sqlx::Result<Vec<(StoredOrder, Option<PaymentToken>)>> {
    let rows = sqlx::query(include_str!("sql/lock_orders.sql")).bind(order_ids).fetch_all(connection).await?;
    let locked = rows.iter().map(|row| {
        let token: Option<String> = row.try_get("payment_token")?;
        Ok((StoredOrder::from_row(row)?, token.map(PaymentToken::new)))
    });
    locked.collect()
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

/// What is open, by status; a status without orders is left out.
pub async fn open(connection: &mut PgConnection) -> sqlx::Result<Vec<Open>> {
    sqlx::query_as(include_str!("sql/open_orders.sql")).fetch_all(connection).await
}

/// How many orders have a deadline that is over.
pub async fn count_overdue(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from orders where deadline <= now()").fetch_one(connection).await
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

//! Orders in PostgreSQL: free functions over a connection, so that they compose in one transaction.

use serde_json::Value;
use sqlx::{FromRow, PgConnection, Row, postgres::PgRow, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{Event, Item, Money, Order, Reason, Status};

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
    order: &Order,
    request: Option<&Request>,
    at: OffsetDateTime,
) -> sqlx::Result<bool> {
    let inserted = sqlx::query(include_str!("sql/insert_order.sql"))
        .bind(order.id)
        .bind(&order.customer_id)
        .bind(order.status.name())
        .bind(order.reason.map(Reason::name))
        .bind(order.version)
        .bind(Json(&order.items))
        .bind(&order.total.currency)
        .bind(order.total.minor)
        .bind(order.payment_id)
        .bind(request.map(|request| request.id))
        .bind(request.map(|request| &request.hash))
        .bind(at)
        .execute(connection)
        .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Writes an order's new state.
pub async fn update(connection: &mut PgConnection, order: &Order, at: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/update_order.sql"))
        .bind(order.id)
        .bind(order.status.name())
        .bind(order.reason.map(Reason::name))
        .bind(order.version)
        .bind(at)
        .execute(connection)
        .await?;
    Ok(())
}

/// Appends events, the first of them as this version.
pub async fn append(
    connection: &mut PgConnection,
    order_id: Uuid,
    first_version: i32,
    events: &[Event],
    at: OffsetDateTime,
) -> sqlx::Result<()> {
    let versions: Vec<i32> = (first_version..).take(events.len()).collect();
    let names: Vec<&str> = events.iter().map(Event::name).collect();
    let data: Vec<Json<Value>> = events.iter().map(data).collect::<sqlx::Result<_>>()?;
    sqlx::query(include_str!("sql/append_events.sql"))
        .bind(order_id)
        .bind(versions)
        .bind(names)
        .bind(data)
        .bind(at)
        .execute(connection)
        .await?;
    Ok(())
}

/// Reads an order.
pub async fn get(connection: &mut PgConnection, order_id: Uuid) -> sqlx::Result<Option<StoredOrder>> {
    sqlx::query_as(include_str!("sql/get_order.sql")).bind(order_id).fetch_optional(connection).await
}

/// Reads an order and locks it until the transaction ends.
pub async fn lock(connection: &mut PgConnection, order_id: Uuid) -> sqlx::Result<Option<StoredOrder>> {
    sqlx::query_as(include_str!("sql/lock_order.sql")).bind(order_id).fetch_optional(connection).await
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

fn data(event: &Event) -> sqlx::Result<Json<Value>> {
    let mut stored = serde_json::to_value(event).map_err(|error| sqlx::Error::Encode(error.into()))?;
    Ok(Json(stored["data"].take()))
}

impl FromRow<'_, PgRow> for StoredOrder {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let status: String = row.try_get("status")?;
        let reason: Option<String> = row.try_get("status_reason")?;
        let Json(items): Json<Vec<Item>> = row.try_get("items")?;
        let order = Order {
            id: row.try_get("order_id")?,
            customer_id: row.try_get("customer_id")?,
            status: Status::parse(&status).ok_or_else(|| unknown("status", status))?,
            reason: reason
                .map(|name| Reason::parse(&name).ok_or_else(|| unknown("status_reason", name)))
                .transpose()?,
            version: row.try_get("version")?,
            items,
            total: Money { currency: row.try_get("currency")?, minor: row.try_get("total_minor")? },
            payment_id: row.try_get("payment_id")?,
        };
        Ok(Self { order, created_at: row.try_get("created_at")?, updated_at: row.try_get("updated_at")? })
    }
}

impl FromRow<'_, PgRow> for StoredEvent {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let event: String = row.try_get("event")?;
        let Json(data): Json<Value> = row.try_get("data")?;
        let event = serde_json::from_value(serde_json::json!({ "event": event, "data": data }))
            .map_err(|error| sqlx::Error::ColumnDecode { index: "event".into(), source: error.into() })?;
        Ok(Self { version: row.try_get("version")?, event, occurred_at: row.try_get("occurred_at")? })
    }
}

fn unknown(column: &str, value: String) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.into(), source: format!("unknown value {value}").into() }
}

impl Status {
    const NAMES: [(Self, &'static str); 8] = [
        (Self::Pending, "PENDING"),
        (Self::StockReserved, "STOCK_RESERVED"),
        (Self::Paid, "PAID"),
        (Self::Confirmed, "CONFIRMED"),
        (Self::Compensating, "COMPENSATING"),
        (Self::Rejected, "REJECTED"),
        (Self::Cancelled, "CANCELLED"),
        (Self::NeedsAttention, "NEEDS_ATTENTION"),
    ];

    fn name(self) -> &'static str {
        Self::NAMES[self as usize].1
    }

    fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(status, _)| *status)
    }
}

impl Reason {
    const NAMES: [(Self, &'static str); 4] = [
        (Self::PaymentDeclined, "PAYMENT_DECLINED"),
        (Self::InsufficientFunds, "INSUFFICIENT_FUNDS"),
        (Self::PaymentExpired, "PAYMENT_EXPIRED"),
        (Self::CancelledByCustomer, "CANCELLED_BY_CUSTOMER"),
    ];

    fn name(self) -> &'static str {
        Self::NAMES[self as usize].1
    }

    fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(reason, _)| *reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_the_order_of_the_variants() {
        for (status, name) in Status::NAMES {
            assert_eq!((status.name(), Status::parse(name)), (name, Some(status)));
        }
        for (reason, name) in Reason::NAMES {
            assert_eq!((reason.name(), Reason::parse(name)), (name, Some(reason)));
            assert_eq!(serde_json::to_value(reason).expect("serializes"), name);
        }
    }
}

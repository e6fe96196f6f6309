//! Rows as orders and events.

use serde_json::Value;
use sqlx::{FromRow, Row, postgres::PgRow, types::Json};

use super::{StoredEvent, StoredOrder};
use crate::domain::{Event, Item, Money, Order, Outcome, Payment, Reason, Shipment, Status, Stock};

impl FromRow<'_, PgRow> for StoredOrder {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let Json(items): Json<Vec<Item>> = row.try_get("items")?;
        let shipment: Option<Json<Shipment>> = row.try_get("shipment")?;
        let order = Order {
            id: row.try_get("order_id")?,
            customer_id: row.try_get("customer_id")?,
            status: named(row, "status", Status::parse)?,
            reason: maybe_named(row, "status_reason", Reason::parse)?,
            attention: maybe_named(row, "attention", Reason::parse)?,
            version: row.try_get("version")?,
            items,
            total: Money { currency: row.try_get("currency")?, minor: row.try_get("total_minor")? },
            payment_id: row.try_get("payment_id")?,
            stock: named(row, "stock", Stock::parse)?,
            payment: named(row, "payment", Payment::parse)?,
            shipment: shipment.map(|Json(shipment)| shipment),
            outcome: maybe_named(row, "outcome", Outcome::parse)?,
            repeats: row.try_get("attempts")?,
        };
        Ok(Self {
            order,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            deadline: row.try_get("deadline")?,
        })
    }
}

impl FromRow<'_, PgRow> for StoredEvent {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let (name, schema): (&str, i16) = (row.try_get("event")?, row.try_get("schema")?);
        let Json(data): Json<Value> = row.try_get("data")?;
        let event = Event::read(name, schema, data)
            .map_err(|error| sqlx::Error::ColumnDecode { index: "data".into(), source: error.into() })?;
        Ok(Self { version: row.try_get("version")?, event, occurred_at: row.try_get("occurred_at")? })
    }
}

fn named<T>(row: &PgRow, column: &str, parse: fn(&str) -> Option<T>) -> sqlx::Result<T> {
    known(column, row.try_get(column)?, parse)
}

fn maybe_named<T>(row: &PgRow, column: &str, parse: fn(&str) -> Option<T>) -> sqlx::Result<Option<T>> {
    let name: Option<&str> = row.try_get(column)?;
    name.map(|name| known(column, name, parse)).transpose()
}

fn known<T>(column: &str, name: &str, parse: fn(&str) -> Option<T>) -> sqlx::Result<T> {
    let unknown = || format!("unknown value {name}").into();
    parse(name).ok_or_else(|| sqlx::Error::ColumnDecode { index: column.into(), source: unknown() })
}

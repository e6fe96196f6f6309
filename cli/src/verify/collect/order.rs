//! The order database.

use std::collections::HashMap;

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::known;
use crate::verify::facts::{Money, Order, OrderEvent, OrderEventKind, OrderStatus, Placed};

pub(super) async fn orders(connection: &mut PgConnection) -> anyhow::Result<HashMap<Uuid, Order>> {
    let mut rows = sqlx::query(
        "select order_id, customer_id, status, version, status_reason, currency, total_minor, payment_id,
            request_id
         from orders",
    )
    .fetch(connection);
    let mut orders = HashMap::new();
    while let Some(row) = rows.try_next().await? {
        let status: &str = row.try_get("status")?;
        let order = Order {
            customer_id: row.try_get("customer_id")?,
            status: known(OrderStatus::parse(status), status, "order status")?,
            version: row.try_get("version")?,
            reason: row.try_get("status_reason")?,
            total: Money { currency: row.try_get("currency")?, minor: row.try_get("total_minor")? },
            payment_id: row.try_get("payment_id")?,
            request_id: row.try_get("request_id")?,
        };
        orders.insert(row.try_get("order_id")?, order);
    }
    Ok(orders)
}

pub(super) async fn events(connection: &mut PgConnection) -> anyhow::Result<Vec<OrderEvent>> {
    // Only what is judged: an order's items stay where they are.
    let mut rows = sqlx::query(
        "select order_id, version, event, data->>'reason' as reason, data->>'customer_id' as customer_id,
            data->'total'->>'currency' as currency, (data->'total'->>'minor')::bigint as total_minor,
            (data->>'payment_id')::uuid as payment_id
         from order_events order by order_id, version",
    )
    .fetch(connection);
    let mut events = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let kind: &str = row.try_get("event")?;
        let placed = || -> Result<Option<Placed>, sqlx::Error> {
            let customer_id: Option<String> = row.try_get("customer_id")?;
            let currency: Option<String> = row.try_get("currency")?;
            let minor: Option<i64> = row.try_get("total_minor")?;
            let payment_id: Option<Uuid> = row.try_get("payment_id")?;
            Ok(customer_id.zip(currency).zip(minor).zip(payment_id).map(
                |(((customer_id, currency), minor), payment_id)| {
                    let total = Money { currency, minor };
                    Placed { customer_id, total, payment_id }
                },
            ))
        };
        events.push(OrderEvent {
            order_id: row.try_get("order_id")?,
            version: row.try_get("version")?,
            kind: known(OrderEventKind::parse(kind), kind, "order event")?,
            reason: row.try_get("reason")?,
            placed: placed()?,
        });
    }
    Ok(events)
}

/// Which cluster this is; from the relay's cursor where the role may not ask the server.
pub(super) async fn system_identifier(connection: &mut PgConnection) -> anyhow::Result<i64> {
    let may_ask: bool =
        sqlx::query_scalar("select has_function_privilege('pg_catalog.pg_control_system()', 'execute')")
            .fetch_one(&mut *connection)
            .await?;
    if may_ask {
        let asked = sqlx::query_scalar("select system_identifier from pg_control_system()");
        return Ok(asked.fetch_one(connection).await?);
    }
    let kept: Option<i64> =
        sqlx::query_scalar("select system_identifier from outbox.cursor where name = 'main'")
            .fetch_one(connection)
            .await?;
    kept.context("the cluster's identifier is not known before the relay's first start; start the relay")
}

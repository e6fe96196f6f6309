//! The order database.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{inventory, items::Items, known};
use crate::verify::facts::{
    Money, Offer, Order, OrderEvent, OrderEventKind, OrderStatus, PaymentLeg, Placed, Reason, StockLeg,
};

pub(super) async fn orders(connection: &mut PgConnection) -> anyhow::Result<HashMap<Uuid, Order>> {
    let mut rows = sqlx::query(
        "select order_id, customer_id, status, version, status_reason, attention, items::text as items, currency,
            total_minor, payment_id, request_id, stock, payment, outcome,
            (shipment->>'shipment_id')::uuid as shipment, attempts,
            floor(extract(epoch from clock_timestamp() - deadline) * 1000)::bigint as overdue_ms
         from orders",
    )
    .fetch(connection);
    let (mut orders, mut items) = (HashMap::new(), Items::default());
    while let Some(row) = rows.try_next().await? {
        let basket = items.read(row.try_get("items")?);
        let order = Order {
            customer_id: row.try_get("customer_id")?,
            status: name(&row, "status", OrderStatus::parse)?.context("orders.status is not null")?,
            version: row.try_get("version")?,
            reason: name(&row, "status_reason", Reason::parse)?,
            attention: name(&row, "attention", Reason::parse)?,
            items: basket.context("orders.items could not be read")?,
            total: Money { currency: row.try_get("currency")?, minor: row.try_get("total_minor")? },
            payment_id: row.try_get("payment_id")?,
            request_id: row.try_get("request_id")?,
            stock: name(&row, "stock", StockLeg::parse)?.context("orders.stock is not null")?,
            payment: name(&row, "payment", PaymentLeg::parse)?.context("orders.payment is not null")?,
            outcome: name(&row, "outcome", OrderStatus::parse)?,
            shipment: row.try_get("shipment")?,
            overdue_ms: row.try_get("overdue_ms")?,
            attempts: row.try_get("attempts")?,
        };
        orders.insert(row.try_get("order_id")?, order);
    }
    Ok(orders)
}

/// Reads what the order service knows of the catalogue.
pub(super) async fn offers(connection: &mut PgConnection) -> anyhow::Result<BTreeMap<Arc<str>, Offer>> {
    let mut rows = sqlx::query("select product_id, version, currency, price_minor, archived from products")
        .fetch(connection);
    let mut offers = BTreeMap::new();
    while let Some(row) = rows.try_next().await? {
        let id: &str = row.try_get("product_id")?;
        offers.insert(id.into(), inventory::offer(&row, row.try_get("version")?)?);
    }
    Ok(offers)
}

pub(super) async fn events(connection: &mut PgConnection) -> anyhow::Result<Vec<OrderEvent>> {
    // Only what is judged. An operator's reason is text, all others are names.
    let mut rows = sqlx::query(
        "select order_id, version, event, schema = 1 as before_stock,
            floor(extract(epoch from occurred_at) * 1000)::bigint as occurred_ms,
            case when event <> 'OrderResolved' then data->>'reason' end as reason,
            case when event = 'CancellationRequested' then 'CANCELLED' else data->>'outcome' end as outcome,
            coalesce((data->>'payment_failed')::boolean, false) as payment_failed,
            coalesce(data->>'resolution' = 'CLOSE', false) as closes,
            coalesce((data->>'minor')::bigint, 0) as refunded_minor, (data->>'shipment_id')::uuid as shipment,
            data->>'customer_id' as customer_id, (data->'items')::text as items,
            data->'total'->>'currency' as currency, (data->'total'->>'minor')::bigint as total_minor,
            (data->>'payment_id')::uuid as payment_id,
            coalesce((data->>'reserves_stock')::boolean, false) as reserves_stock
         from order_events order by order_id, version",
    )
    .fetch(connection);
    let (mut events, mut items) = (Vec::new(), Items::default());
    while let Some(row) = rows.try_next().await? {
        events.push(OrderEvent {
            order_id: row.try_get("order_id")?,
            version: row.try_get("version")?,
            kind: name(&row, "event", OrderEventKind::parse)?.context("order_events.event is not null")?,
            occurred_ms: row.try_get("occurred_ms")?,
            before_stock: row.try_get("before_stock")?,
            reason: name(&row, "reason", Reason::parse)?,
            outcome: name(&row, "outcome", OrderStatus::parse)?,
            payment_failed: row.try_get("payment_failed")?,
            closes: row.try_get("closes")?,
            refunded_minor: row.try_get("refunded_minor")?,
            shipment: row.try_get("shipment")?,
            placed: placed(&row, &mut items)?.map(Box::new),
        });
    }
    Ok(events)
}

fn placed(row: &PgRow, items: &mut Items) -> anyhow::Result<Option<Placed>> {
    let (Some(customer_id), Some(json), Some(currency), Some(minor), Some(payment_id)) = (
        row.try_get::<Option<String>, _>("customer_id")?,
        row.try_get::<Option<&str>, _>("items")?,
        row.try_get::<Option<String>, _>("currency")?,
        row.try_get::<Option<i64>, _>("total_minor")?,
        row.try_get::<Option<Uuid>, _>("payment_id")?,
    ) else {
        return Ok(None);
    };
    let items = items.read(json).context("the items of an order could not be read")?;
    let (total, reserves_stock) = (Money { currency, minor }, row.try_get("reserves_stock")?);
    Ok(Some(Placed { customer_id, items, total, payment_id, reserves_stock }))
}

/// A name in a column, where there is one.
fn name<T>(row: &PgRow, column: &str, parse: impl Fn(&str) -> Option<T>) -> anyhow::Result<Option<T>> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| known(parse(text), text, column)).transpose()
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

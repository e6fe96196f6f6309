//! The inventory database.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{items::Items, known};
use crate::verify::facts::{Listed, Money, Offer, Product, Reservation, ReservationState};

/// Reads the catalogue and the books of every product, also of one that is in no catalogue.
pub(super) async fn products(connection: &mut PgConnection) -> anyhow::Result<BTreeMap<Arc<str>, Product>> {
    let mut rows = sqlx::query(
        "with shelf as (
            select product_id, sum(available)::bigint as available, sum(reserved)::bigint as reserved,
                min(least(available, reserved)) as least
            from stock group by product_id
         ), book as (
            select product_id, sum(delta)::bigint as counted from adjustments group by product_id
         )
         select product_id, p.version, p.currency, p.price_minor, p.archived,
            floor(extract(epoch from p.created_at) * 1000)::bigint as created_ms,
            floor(extract(epoch from p.announced_at) * 1000)::bigint as announced_ms,
            coalesce(shelf.available, 0) as available, coalesce(shelf.reserved, 0) as reserved,
            coalesce(shelf.least, 0) as least, coalesce(book.counted, 0) as counted
         from products as p full join shelf using (product_id) full join book using (product_id)",
    )
    .fetch(connection);
    let mut products = BTreeMap::new();
    while let Some(row) = rows.try_next().await? {
        let id: &str = row.try_get("product_id")?;
        let listed = match row.try_get::<Option<i32>, _>("version")? {
            None => None,
            Some(version) => Some(Listed {
                offer: offer(&row, version)?,
                created_ms: row.try_get("created_ms")?,
                announced_ms: row.try_get("announced_ms")?,
            }),
        };
        let product = Product {
            listed,
            available: row.try_get("available")?,
            reserved: row.try_get("reserved")?,
            least: row.try_get("least")?,
            counted: row.try_get("counted")?,
        };
        products.insert(id.into(), product);
    }
    Ok(products)
}

/// The columns of either service's `products`.
pub(super) fn offer(row: &PgRow, version: i32) -> Result<Offer, sqlx::Error> {
    let price = Money { currency: row.try_get("currency")?, minor: row.try_get("price_minor")? };
    Ok(Offer { version, price, archived: row.try_get("archived")? })
}

pub(super) async fn reservations(connection: &mut PgConnection) -> anyhow::Result<Vec<Reservation>> {
    let mut rows = sqlx::query(
        "select order_id, version, state, items::text as items, shipment_id,
                floor(extract(epoch from updated_at) * 1000)::bigint as updated_ms
             from reservations",
    )
    .fetch(connection);
    let (mut reservations, mut items) = (Vec::new(), Items::default());
    while let Some(row) = rows.try_next().await? {
        let order_id: Uuid = row.try_get("order_id")?;
        let state: &str = row.try_get("state")?;
        let basket = items.read(row.try_get("items")?);
        reservations.push(Reservation {
            order_id,
            version: row.try_get("version")?,
            state: known(ReservationState::parse(state), state, "state of a reservation")?,
            items: basket
                .with_context(|| format!("the items of reservation {order_id} could not be read"))?,
            shipment: row.try_get("shipment_id")?,
            updated_ms: row.try_get("updated_ms")?,
        });
    }
    Ok(reservations)
}

//! What orders hold.

use sqlx::{FromRow, PgConnection, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::decode;
use crate::domain::{Reservation, Shipment, State};

/// Inserts a reservation as its first version; false where its order has one.
pub async fn insert(connection: &mut PgConnection, reservation: &Reservation) -> sqlx::Result<bool> {
    let done = sqlx::query(include_str!("../sql/insert_reservation.sql"))
        .bind(reservation.order_id)
        .bind(reservation.version)
        .bind(reservation.state.as_str())
        .bind(reservation.state.rejection().map(|rejection| rejection.as_str()))
        .bind(reservation.rejected_product.as_ref().map(|product| product.as_str()))
        .bind(Json(&reservation.items))
        .bind(reservation.bucket)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Reads one order's reservation and holds its row until the transaction ends; every writer of a reservation starts here,
/// or with [`insert`].
pub async fn lock(connection: &mut PgConnection, order_id: Uuid) -> sqlx::Result<Option<Reservation>> {
    sqlx::query_as(include_str!("../sql/lock_reservation.sql"))
        .bind(order_id)
        .fetch_optional(connection)
        .await
}

/// Writes a locked reservation over `version`.
pub async fn save(
    connection: &mut PgConnection,
    version: i32,
    reservation: &Reservation,
) -> sqlx::Result<()> {
    let shipment = reservation.shipment.as_ref();
    let done = sqlx::query(include_str!("../sql/save_reservation.sql"))
        .bind(reservation.order_id)
        .bind(version)
        .bind(reservation.version)
        .bind(reservation.state.as_str())
        .bind(reservation.state.rejection().map(|rejection| rejection.as_str()))
        .bind(reservation.rejected_product.as_ref().map(|product| product.as_str()))
        .bind(shipment.map(|shipment| shipment.id))
        .bind(shipment.map(|shipment| shipment.carrier.as_str()))
        .bind(shipment.map(|shipment| shipment.ship_time))
        .execute(connection)
        .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

impl FromRow<'_, PgRow> for Reservation {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let rejection: Option<&str> = row.try_get("rejection")?;
        let rejection = rejection.map(str::parse).transpose().map_err(decode)?;
        let rejected_product: Option<&str> = row.try_get("rejected_product")?;
        let Json(items) = row.try_get("items")?;
        let shipment_id: Option<Uuid> = row.try_get("shipment_id")?;
        let shipment = |id| {
            Ok::<_, sqlx::Error>(Shipment {
                id,
                carrier: row.try_get("carrier")?,
                ship_time: row.try_get("ship_time")?,
            })
        };
        Ok(Self {
            order_id: row.try_get("order_id")?,
            version: row.try_get("version")?,
            state: State::parse(row.try_get("state")?, rejection).map_err(decode)?,
            rejected_product: rejected_product.map(str::parse).transpose().map_err(decode)?,
            items,
            bucket: row.try_get("bucket")?,
            shipment: shipment_id.map(shipment).transpose()?,
        })
    }
}

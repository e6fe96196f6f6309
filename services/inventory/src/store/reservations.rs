//! What orders hold.

use sqlx::{FromRow, PgConnection, PgExecutor, Row, postgres::PgRow, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::decode;
use crate::domain::{ProductId, Rejection, Reservation, Shipment, State};

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

/// As [`lock`], for many orders; without those that have none.
pub async fn lock_all(connection: &mut PgConnection, order_ids: &[Uuid]) -> sqlx::Result<Vec<Reservation>> {
    let sql = include_str!("../sql/lock_reservations.sql");
    sqlx::query_as(sql).bind(order_ids).fetch_all(connection).await
}

/// Inserts reservations as they are, whose orders had none when they were to be locked; fails where one has by now.
pub async fn insert_all(connection: &mut PgConnection, new: &[&Reservation]) -> sqlx::Result<()> {
    let shipments = Shipments::of(new);
    let done = sqlx::query(include_str!("../sql/insert_reservations.sql"))
        .bind(column(new, |new| new.order_id))
        .bind(column(new, |new| new.version))
        .bind(column(new, |new| new.state.as_str()))
        .bind(column(new, |new| new.state.rejection().map(Rejection::as_str)))
        .bind(column(new, |new| new.rejected_product.as_ref().map(ProductId::as_str)))
        .bind(column(new, |new| Json(&new.items)))
        .bind(column(new, |new| new.bucket))
        .bind(shipments.ids)
        .bind(shipments.carriers)
        .bind(shipments.times)
        .execute(connection)
        .await?;
    if done.rows_affected() == new.len() as u64 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// As [`save`], for many; `versions` are those that they are written over.
pub async fn save_all(
    connection: &mut PgConnection,
    versions: &[i32],
    changed: &[&Reservation],
) -> sqlx::Result<()> {
    let shipments = Shipments::of(changed);
    let done = sqlx::query(include_str!("../sql/save_reservations.sql"))
        .bind(column(changed, |changed| changed.order_id))
        .bind(versions)
        .bind(column(changed, |changed| changed.version))
        .bind(column(changed, |changed| changed.state.as_str()))
        .bind(column(changed, |changed| changed.state.rejection().map(Rejection::as_str)))
        .bind(column(changed, |changed| changed.rejected_product.as_ref().map(ProductId::as_str)))
        .bind(shipments.ids)
        .bind(shipments.carriers)
        .bind(shipments.times)
        .execute(connection)
        .await?;
    if done.rows_affected() == changed.len() as u64 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// How old the oldest reservation is that is neither shipped nor given back, in seconds; 0 without one.
pub async fn oldest_secs(executor: impl PgExecutor<'_>) -> sqlx::Result<f64> {
    sqlx::query_scalar(include_str!("../sql/oldest_reservation.sql")).fetch_one(executor).await
}

/// One column of many reservations.
fn column<'r, T>(of: &[&'r Reservation], value: impl Fn(&'r Reservation) -> T) -> Vec<T> {
    of.iter().map(|reservation| value(reservation)).collect()
}

/// The shipments' columns.
struct Shipments<'r> {
    ids: Vec<Option<Uuid>>,
    carriers: Vec<Option<&'r str>>,
    times: Vec<Option<OffsetDateTime>>,
}

impl<'r> Shipments<'r> {
    fn of(reservations: &[&'r Reservation]) -> Self {
        let shipments = column(reservations, |reservation| reservation.shipment.as_ref());
        Self {
            ids: shipments.iter().map(|shipment| shipment.map(|shipment| shipment.id)).collect(),
            carriers: shipments.iter().map(|shipment| shipment.map(|shipment| &*shipment.carrier)).collect(),
            times: shipments.iter().map(|shipment| shipment.map(|shipment| shipment.ship_time)).collect(),
        }
    }
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

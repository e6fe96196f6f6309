//! What the saga is told: one record for each version of a reservation.

use consumer::HandleError;
use outbox::Event;
use proto::inventory::v1::{
    CommitFailed, ShipmentScheduled, StockRejected, StockRejection, StockReleased, StockReserved,
};

use super::STOCK_RESULTS;
use crate::{
    app::SOURCE,
    domain::{Answer, Rejection, Reservation},
};

/// The one record of a reservation's version.
pub(super) fn tell(reservation: &Reservation, answer: Answer) -> Result<Event, HandleError> {
    let order_id = reservation.order_id.to_string();
    Ok(match answer {
        Answer::Reserved => event(reservation, &StockReserved { order_id }),
        Answer::Rejected(rejection) => {
            let missing = reservation.rejected_product.as_ref();
            let missing = missing.filter(|_| reservation.state.rejection().is_some());
            let product_id = missing.map(ToString::to_string).unwrap_or_default();
            let rejection = to_proto(rejection).into();
            event(reservation, &StockRejected { order_id, rejection, product_id })
        }
        Answer::Released => event(reservation, &StockReleased { order_id }),
        Answer::CommitFailed => event(reservation, &CommitFailed { order_id }),
        Answer::Shipped => {
            let shipment = reservation.shipment.as_ref().ok_or(sqlx::Error::RowNotFound)?;
            let ship_time = prost_types::Timestamp { seconds: shipment.ship_time.unix_timestamp(), nanos: 0 };
            let scheduled = ShipmentScheduled {
                order_id,
                shipment_id: shipment.id.to_string(),
                carrier: shipment.carrier.clone(),
                ship_time: Some(ship_time),
            };
            event(reservation, &scheduled)
        }
    })
}

fn event<M: prost::Message + prost::Name>(reservation: &Reservation, message: &M) -> Event {
    SOURCE.event(STOCK_RESULTS, reservation.order_id, reservation.version, message)
}

fn to_proto(rejection: Rejection) -> StockRejection {
    match rejection {
        Rejection::OutOfStock => StockRejection::OutOfStock,
        Rejection::NotSold => StockRejection::NotSold,
        Rejection::Expired => StockRejection::Expired,
    }
}

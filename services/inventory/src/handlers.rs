//! Kafka: one function for each event of `stock-requests`. SQL only.

use consumer::{EventType, HandleError, Handler, Limits, Message, Subscription, Topic};
use outbox::Event;
use proto::inventory::v1::{
    CommitFailed, CommitStock, ReleaseStock, ReserveStock, ShipmentScheduled, StockItem, StockRejected,
    StockRejection, StockReleased, StockReserved,
};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    app::SOURCE,
    domain::{
        Answer, Command, Item, ProductId, Rejection, Reservation, Shipment, State, Units, bucket_of, carrier,
        decide, merge, ship_time,
    },
    store::{reservations, stock},
    take::take,
};

/// Logical topic of the answers to `stock-requests`.
pub const STOCK_RESULTS: &str = "stock-results";

/// What inventory reads.
pub const SUBSCRIPTION: Subscription = Subscription {
    group: "inventory",
    topics: &[Topic::new(
        "stock-requests",
        &[EventType::of::<ReserveStock>(), EventType::of::<CommitStock>(), EventType::of::<ReleaseStock>()],
    )],
    limits: Limits::DEFAULT,
};

/// Handles the commands to inventory.
#[derive(Clone, Copy, Debug)]
pub struct StockRequests;

impl Handler for StockRequests {
    async fn handle(
        &self,
        connection: &mut PgConnection,
        message: &Message,
    ) -> Result<Vec<Event>, HandleError> {
        let (bucket, now) = (bucket_of(message.partition), OffsetDateTime::now_utc());
        if message.is::<ReserveStock>() {
            let request = Request::parse(message.decode()?).map_err(HandleError::poison)?;
            reserve(connection, request, bucket, now).await
        } else if message.is::<CommitStock>() {
            let order_id = order_id(&message.decode::<CommitStock>()?.order_id)?;
            settle(connection, order_id, Command::Commit, bucket, now).await
        } else if message.is::<ReleaseStock>() {
            let order_id = order_id(&message.decode::<ReleaseStock>()?.order_id)?;
            settle(connection, order_id, Command::Release, bucket, now).await
        } else {
            Ok(vec![])
        }
    }
}

/// A [`ReserveStock`] whose every field holds.
struct Request {
    order_id: Uuid,
    items: Vec<Item>,
    not_after: Option<OffsetDateTime>,
}

/// Two statements where all goes well: the reservation, which locks the order, and its units.
async fn reserve(
    connection: &mut PgConnection,
    Request { order_id, items, not_after }: Request,
    bucket: i16,
    now: OffsetDateTime,
) -> Result<Vec<Event>, HandleError> {
    let command = Command::Reserve { expired: not_after.is_some_and(|not_after| not_after <= now) };
    let step = decide(None, command);
    let mut reservation = first_version(order_id, step.to, items, bucket);
    if !reservations::insert(connection, &reservation).await? {
        let existing = existing(connection, order_id).await?;
        let holds = matches!(existing.state, State::Reserved | State::Committed);
        if holds && existing.items != reservation.items {
            return Err(HandleError::poison(format!("items of order {order_id} were others before")));
        }
        return carry_out(connection, existing, command, now).await;
    }
    let mut answer = step.answer;
    if step.units == Units::Take
        && let Err(refusal) = take(connection, bucket, &reservation.items).await?
    {
        reservation.state = State::Rejected(Some(refusal.rejection));
        reservation.rejected_product = Some(refusal.product_id);
        reservations::save(connection, reservation.version, &reservation).await?;
        answer = Answer::Rejected(refusal.rejection);
    }
    Ok(vec![tell(&reservation, answer)?])
}

/// Commit or release, of which either may come first.
async fn settle(
    connection: &mut PgConnection,
    order_id: Uuid,
    command: Command,
    bucket: i16,
    now: OffsetDateTime,
) -> Result<Vec<Event>, HandleError> {
    if let Some(reservation) = reservations::lock(connection, order_id).await? {
        return carry_out(connection, reservation, command, now).await;
    }
    let step = decide(None, command);
    let tombstone = first_version(order_id, step.to, vec![], bucket);
    if reservations::insert(connection, &tombstone).await? {
        return Ok(vec![tell(&tombstone, step.answer)?]);
    }
    let existing = existing(connection, order_id).await?;
    carry_out(connection, existing, command, now).await
}

/// The next version of a locked reservation.
async fn carry_out(
    connection: &mut PgConnection,
    mut reservation: Reservation,
    command: Command,
    now: OffsetDateTime,
) -> Result<Vec<Event>, HandleError> {
    let step = decide(Some(reservation.state), command);
    let moved = match step.units {
        // Only an order that has no reservation yet takes.
        Units::Stay | Units::Take => None,
        Units::Ship => Some((0, -1)),
        Units::PutBack => Some((1, -1)),
        Units::Return => Some((1, 0)),
    };
    if let Some(moved) = moved {
        stock::settle(connection, reservation.bucket, &reservation.items, moved).await?;
    }
    if step.units == Units::Ship {
        let (id, carrier) = (Uuid::now_v7(), carrier(reservation.order_id).to_owned());
        reservation.shipment = Some(Shipment { id, carrier, ship_time: ship_time(now) });
    }
    let (before, version) = (reservation.state, reservation.version);
    reservation.state = step.to;
    reservation.version += 1;
    reservations::save(connection, version, &reservation).await?;
    tracing::info!(
        order_id = %reservation.order_id,
        before = before.as_str(),
        after = reservation.state.as_str(),
        version = reservation.version,
        "reservation changed"
    );
    Ok(vec![tell(&reservation, step.answer)?])
}

/// The reservation that was there before, locked.
async fn existing(connection: &mut PgConnection, order_id: Uuid) -> Result<Reservation, HandleError> {
    Ok(reservations::lock(connection, order_id).await?.ok_or(sqlx::Error::RowNotFound)?)
}

fn first_version(order_id: Uuid, state: State, items: Vec<Item>, bucket: i16) -> Reservation {
    Reservation { order_id, version: 1, state, rejected_product: None, items, bucket, shipment: None }
}

/// The one record of a reservation's version.
fn tell(reservation: &Reservation, answer: Answer) -> Result<Event, HandleError> {
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

fn order_id(text: &str) -> Result<Uuid, HandleError> {
    parse_order_id(text).map_err(HandleError::poison)
}

fn parse_order_id(text: &str) -> Result<Uuid, String> {
    Uuid::try_parse(text).map_err(|_| "order_id must be a UUID".to_owned())
}

impl Request {
    fn parse(event: ReserveStock) -> Result<Self, String> {
        let order_id = parse_order_id(&event.order_id)?;
        if event.items.is_empty() {
            return Err("items must not be empty".to_owned());
        }
        let items = event.items.into_iter().enumerate().map(|(index, StockItem { product_id, quantity })| {
            let product_id: ProductId =
                product_id.parse().map_err(|error| format!("items[{index}].product_id {error}"))?;
            if quantity < 1 {
                return Err(format!("items[{index}].quantity must be at least 1"));
            }
            Ok(Item { product_id, quantity: i64::from(quantity) })
        });
        let items = merge(items.collect::<Result<Vec<_>, _>>()?);
        Ok(Self { order_id, items, not_after: event.not_after.map(to_time).transpose()? })
    }
}

fn to_time(timestamp: prost_types::Timestamp) -> Result<OffsetDateTime, String> {
    let nanos = i128::from(timestamp.seconds) * 1_000_000_000 + i128::from(timestamp.nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| "not_after is out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> ReserveStock {
        ReserveStock {
            order_id: Uuid::now_v7().to_string(),
            items: vec![item("mug", 2), item("pen", 1), item("mug", 3)],
            not_after: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
        }
    }

    fn item(product_id: &str, quantity: i32) -> StockItem {
        StockItem { product_id: product_id.to_owned(), quantity }
    }

    #[test]
    fn a_whole_request_is_taken_and_each_product_counted_once() {
        let request = Request::parse(event()).expect("a valid request");
        let items: Vec<_> =
            request.items.iter().map(|item| (item.product_id.as_str(), item.quantity)).collect();
        assert_eq!(items, [("mug", 5), ("pen", 1)]);
        assert_eq!(request.not_after.map(OffsetDateTime::unix_timestamp), Some(1_800_000_000));
    }

    #[test]
    fn quantities_add_up_beyond_32_bits() {
        let items = vec![item("mug", i32::MAX), item("mug", i32::MAX)];
        let request = Request::parse(ReserveStock { items, ..event() }).expect("a valid request");
        assert_eq!(request.items[0].quantity, 2 * i64::from(i32::MAX));
    }

    #[test]
    fn each_wrong_field_is_named() {
        type Spoil = fn(&mut ReserveStock);
        let table: [(&str, Spoil); 7] = [
            ("order_id", |event| event.order_id = "1".to_owned()),
            ("items", |event| event.items.clear()),
            ("items[1].product_id", |event| event.items[1].product_id = "a b".to_owned()),
            ("items[0].product_id", |event| event.items[0].product_id.clear()),
            ("items[2].quantity", |event| event.items[2].quantity = 0),
            ("items[0].quantity", |event| event.items[0].quantity = -1),
            ("not_after", |event| {
                event.not_after = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
            }),
        ];
        for (field, spoil) in table {
            let mut event = event();
            spoil(&mut event);
            let reason = Request::parse(event).err().unwrap_or_default();
            assert!(reason.starts_with(&format!("{field} ")), "{field}: {reason:?}");
        }
    }
}

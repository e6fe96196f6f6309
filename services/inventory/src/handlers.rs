//! Kafka: one function for each event of `stock-requests`, and one for a batch of them. SQL only.

mod answer;
mod batch;
mod request;

use consumer::{EventType, HandleError, Handler, Limits, Message, Noted, Subscription, Topic};
use outbox::Event;
use proto::inventory::v1::{CommitStock, ReleaseStock, ReserveStock};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use self::{answer::tell, request::Request};
use crate::{
    domain::{
        Answer, Command, Item, Refusal, Reservation, Shipment, State, Units, carrier, decide, ship_time,
    },
    metrics::Metrics,
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
#[derive(Debug)]
pub struct StockRequests {
    metrics: Metrics,
    /// The state that a reservation comes into, where that is another one than before.
    noted: Noted<Option<State>>,
}

/// What a command has led to: what the saga is told, and the state that the reservation came into, if another one.
type Effect = (Event, Option<State>);

impl StockRequests {
    /// Counts in these.
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, noted: Noted::default() }
    }
}

impl Handler for StockRequests {
    async fn handle(
        &self,
        connection: &mut PgConnection,
        message: &Message,
    ) -> Result<Vec<Event>, HandleError> {
        let now = OffsetDateTime::now_utc();
        let Some(request) = Request::parse(message, now)? else { return Ok(vec![]) };
        let (event, state) = if matches!(request.command, Command::Reserve { .. }) {
            reserve(connection, request, now).await?
        } else {
            settle(connection, request, now).await?
        };
        self.noted.note(message, state);
        Ok(vec![event])
    }

    async fn handle_all(
        &self,
        connection: &mut PgConnection,
        messages: &[&Message],
    ) -> Result<Vec<Event>, HandleError> {
        // One record alone needs fewer statements than a batch.
        if messages.len() > 1
            && let Some(effects) = batch::handle(connection, messages).await?
        {
            let noted = effects.into_iter().map(|(message, (event, state))| {
                self.noted.note(message, state);
                event
            });
            return Ok(noted.collect());
        }
        self.handle_each(connection, messages).await
    }

    fn committed(&self, messages: &[&Message]) {
        self.metrics.came_into(self.noted.take(messages).into_iter().flatten());
    }
}

/// Two statements where all goes well: the reservation, which locks the order, and its units.
async fn reserve(
    connection: &mut PgConnection,
    request: Request,
    now: OffsetDateTime,
) -> Result<Effect, HandleError> {
    let step = decide(None, request.command);
    let mut reservation = first_version(&request, step.to);
    if !reservations::insert(connection, &reservation).await? {
        let existing = existing(connection, request.order_id).await?;
        request.check_items(&existing)?;
        return carry_out(connection, existing, request.command, now).await;
    }
    let mut answer = step.answer;
    if step.units == Units::Take
        && let Err(refusal) = take(connection, request.bucket, &reservation.items).await?
    {
        answer = refuse(&mut reservation, refusal);
        reservations::save(connection, reservation.version, &reservation).await?;
    }
    Ok((tell(&reservation, answer)?, Some(reservation.state)))
}

/// Commit or release, of which either may come first.
async fn settle(
    connection: &mut PgConnection,
    request: Request,
    now: OffsetDateTime,
) -> Result<Effect, HandleError> {
    if let Some(reservation) = reservations::lock(connection, request.order_id).await? {
        return carry_out(connection, reservation, request.command, now).await;
    }
    let step = decide(None, request.command);
    let tombstone = first_version(&request, step.to);
    if reservations::insert(connection, &tombstone).await? {
        return Ok((tell(&tombstone, step.answer)?, Some(tombstone.state)));
    }
    let existing = existing(connection, request.order_id).await?;
    carry_out(connection, existing, request.command, now).await
}

/// The next version of a locked reservation.
async fn carry_out(
    connection: &mut PgConnection,
    mut reservation: Reservation,
    command: Command,
    now: OffsetDateTime,
) -> Result<Effect, HandleError> {
    let (before, version) = (reservation.state, reservation.version);
    let (moved, answer) = advance(&mut reservation, command, now);
    if let Some(moved) = moved {
        stock::settle(connection, reservation.bucket, &reservation.items, moved).await?;
    }
    reservations::save(connection, version, &reservation).await?;
    log_change(before, &reservation);
    let state = (reservation.state != before).then_some(reservation.state);
    Ok((tell(&reservation, answer)?, state))
}

/// Makes the next version of a reservation. Says what is to be added to the available and the reserved units of its items.
fn advance(
    reservation: &mut Reservation,
    command: Command,
    now: OffsetDateTime,
) -> (Option<(i64, i64)>, Answer) {
    let step = decide(Some(reservation.state), command);
    let moved = match step.units {
        // Only an order that has no reservation yet takes.
        Units::Stay | Units::Take => None,
        Units::Ship => Some((0, -1)),
        Units::PutBack => Some((1, -1)),
        Units::Return => Some((1, 0)),
    };
    if step.units == Units::Ship {
        let (id, carrier) = (Uuid::now_v7(), carrier(reservation.order_id).to_owned());
        reservation.shipment = Some(Shipment { id, carrier, ship_time: ship_time(now) });
    }
    reservation.state = step.to;
    reservation.version += 1;
    (moved, step.answer)
}

fn log_change(before: State, reservation: &Reservation) {
    tracing::info!(
        order_id = %reservation.order_id,
        before = before.as_str(),
        after = reservation.state.as_str(),
        version = reservation.version,
        "reservation changed"
    );
}

/// The reservation that was there before, locked.
async fn existing(connection: &mut PgConnection, order_id: Uuid) -> Result<Reservation, HandleError> {
    Ok(reservations::lock(connection, order_id).await?.ok_or(sqlx::Error::RowNotFound)?)
}

fn first_version(request: &Request, state: State) -> Reservation {
    let items: Vec<Item> = request.items.clone();
    let Request { order_id, bucket, .. } = *request;
    Reservation { order_id, version: 1, state, rejected_product: None, items, bucket, shipment: None }
}

/// Nothing could be taken.
fn refuse(reservation: &mut Reservation, refusal: Refusal) -> Answer {
    reservation.state = State::Rejected(Some(refusal.rejection));
    reservation.rejected_product = Some(refusal.product_id);
    Answer::Rejected(refusal.rejection)
}

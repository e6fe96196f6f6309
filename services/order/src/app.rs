//! The use cases. Each owns one transaction: domain rows first, events last.

use std::time::Duration;

use outbox::UnitOfWork;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    domain::{self, Command, Draft, Event, Item, Order, PaymentToken, Resolution, Wait},
    error::Error,
    messages::Telling,
    store::{self, Filter, Page, Request, StoredEvent, StoredOrder},
};

/// How long each answer is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Inventory's, about a reservation.
    pub stock: Duration,
    /// Billing's, about a charge.
    pub payment: Duration,
    /// Inventory's, about a shipment; then it is asked again.
    pub shipment: Duration,
    /// Those of a release and a refund; then they are asked for again.
    pub compensation: Duration,
}

/// The order service's use cases.
#[derive(Clone, Debug)]
pub struct Orders {
    pool: PgPool,
    deadlines: Deadlines,
}

/// An order before its first commit, or after its last change.
struct Change {
    stored: StoredOrder,
    events: Vec<StoredEvent>,
    told: Vec<outbox::Event>,
}

impl Orders {
    /// Use cases on this database.
    pub fn new(pool: PgPool, deadlines: Deadlines) -> Self {
        Self { pool, deadlines }
    }

    /// Accepts a checked draft as an order, or finds the one that this request has made before.
    pub async fn create(
        &self,
        draft: Draft,
        token_hash: String,
        request: Option<Request>,
    ) -> Result<StoredOrder, Error> {
        let mut work = UnitOfWork::begin(&self.pool).await?;
        let Draft { customer_id, items, payment_token } = draft;
        let product_ids: Vec<&str> = items.iter().map(|item| item.product_id.as_str()).collect();
        let offers = store::offers(&mut work, &product_ids).await?;
        let priced = domain::price(items, &offers).map_err(Error::Unavailable);
        let placed = priced.and_then(|items: Vec<Item>| {
            domain::place(customer_id.clone(), items, Uuid::now_v7(), token_hash).map_err(Error::Invalid)
        });
        let placed = match placed {
            Ok(placed) => placed,
            // What was accepted at yesterday's price stays accepted.
            Err(error) => return repeated(&mut work, &customer_id, request).await?.ok_or(error),
        };
        let first = self.deadlines.begin(Uuid::now_v7(), Event::OrderPlaced(placed));
        if !store::insert(&mut work, &first.stored, &payment_token, request.as_ref()).await? {
            // Only a request id can collide; order and payment ids were drawn a moment ago.
            let found = repeated(&mut work, &customer_id, request).await?;
            return found.ok_or_else(|| sqlx::Error::RowNotFound.into());
        }
        store::append(&mut work, first.stored.order.id, &first.events).await?;
        work.commit(first.told).await?;
        Ok(first.stored)
    }

    /// Cancels an order; what it holds is given back before it ends. Repeating it is no error.
    pub async fn cancel(&self, order_id: Uuid) -> Result<StoredOrder, Error> {
        self.change(order_id, Command::Cancel { at: now() }).await
    }

    /// Lets an order go on that waits for an operator.
    pub async fn resolve(
        &self,
        order_id: Uuid,
        resolution: Resolution,
        reason: String,
    ) -> Result<StoredOrder, Error> {
        self.change(order_id, Command::Resolve { resolution, reason }).await
    }

    /// Undoes, asks again or parks at most `limit` orders whose deadline had passed at `horizon`. Returns how many.
    pub async fn pass_deadlines(&self, horizon: OffsetDateTime, limit: i64) -> Result<usize, Error> {
        let mut work = UnitOfWork::begin(&self.pool).await?;
        let overdue = store::lock_overdue(&mut work, horizon, limit).await?;
        let mut told = Vec::new();
        for order_id in &overdue {
            let (stored, events) =
                apply(&mut work, *order_id, Command::DeadlinePassed, self.deadlines).await?;
            let (status, waits_for) = (stored.order.status, stored.order.waits_for());
            tracing::warn!(%order_id, ?status, ?waits_for, "a deadline has passed");
            told.extend(events);
        }
        work.commit(told).await?;
        Ok(overdue.len())
    }

    /// When the earliest deadline is.
    pub async fn next_deadline(&self) -> Result<Option<OffsetDateTime>, Error> {
        let earliest = sqlx::query_scalar("select min(deadline) from orders where deadline is not null");
        Ok(earliest.fetch_one(&self.pool).await?)
    }

    /// An order with its history, both as of one moment.
    pub async fn get(&self, order_id: Uuid) -> Result<(StoredOrder, Vec<StoredEvent>), Error> {
        let mut connection = self.pool.acquire().await?;
        let order = store::get(&mut connection, order_id).await?.ok_or(Error::NotFound(order_id))?;
        let mut history = store::history(&mut connection, order_id).await?;
        // What was committed between the two statements is the next read's.
        history.retain(|event| event.version <= order.order.version);
        Ok((order, history))
    }

    /// One page of orders, the newest first.
    pub async fn list(&self, filter: &Filter, before: Option<Uuid>, limit: i64) -> Result<Page, Error> {
        Ok(store::list(&mut *self.pool.acquire().await?, filter, before, limit).await?)
    }

    async fn change(&self, order_id: Uuid, command: Command) -> Result<StoredOrder, Error> {
        let mut work = UnitOfWork::begin(&self.pool).await?;
        let (order, events) = apply(&mut work, order_id, command, self.deadlines).await?;
        work.commit(events).await?;
        Ok(order)
    }
}

impl Deadlines {
    fn begin(self, order_id: Uuid, event: Event) -> Change {
        let at = now();
        let order = domain::evolve(order_id, None, &event);
        let deadline = self.of(&order, at);
        let event = StoredEvent { version: order.version, event, occurred_at: at };
        let telling = Telling { before: None, event: &event, after: &order, deadline, token: None };
        let told = telling.events();
        let stored = StoredOrder { order, created_at: at, updated_at: at, deadline };
        Change { stored, events: vec![event], told }
    }

    /// Until when what an order waits for is waited for, from `at`.
    fn of(self, order: &Order, at: OffsetDateTime) -> Option<OffsetDateTime> {
        let wait = match order.waits_for()? {
            Wait::Stock => self.stock,
            Wait::Payment => self.payment,
            Wait::Shipment => self.shipment,
            Wait::Compensation => self.compensation,
        };
        Some(at + wait)
    }
}

/// Applies a command inside a transaction: locks the order, writes its new state, returns what is to be told.
pub async fn apply(
    connection: &mut PgConnection,
    order_id: Uuid,
    command: Command,
    deadlines: Deadlines,
) -> Result<(StoredOrder, Vec<outbox::Event>), Error> {
    let (before, token) = store::lock(connection, order_id).await?.ok_or(Error::NotFound(order_id))?;
    let caused = domain::decide(&before.order, command)?;
    if caused.is_empty() {
        return Ok((before, Vec::new()));
    }
    let Change { stored, events, told } = unfold(before.clone(), caused, token.as_ref(), deadlines);
    store::append(connection, order_id, &events).await?;
    store::update(connection, &stored, before.order.version).await?;
    Ok((stored, told))
}

/// The order after these events, and what each of them says.
fn unfold(
    before: StoredOrder,
    caused: Vec<Event>,
    token: Option<&PaymentToken>,
    deadlines: Deadlines,
) -> Change {
    let at = now();
    let mut order = before.order;
    let (mut events, mut told) = (Vec::with_capacity(caused.len()), Vec::new());
    for event in caused {
        let after = domain::evolve(order.id, Some(order.clone()), &event);
        let event = StoredEvent { version: after.version, event, occurred_at: at };
        let deadline = deadlines.of(&after, at);
        let telling = Telling { before: Some(&order), event: &event, after: &after, deadline, token };
        told.extend(telling.events());
        events.push(event);
        order = after;
    }
    let deadline = deadlines.of(&order, at);
    Change { stored: StoredOrder { order, updated_at: at, deadline, ..before }, events, told }
}

/// The order that this request has made before, if it has made one.
async fn repeated(
    connection: &mut PgConnection,
    customer_id: &str,
    request: Option<Request>,
) -> Result<Option<StoredOrder>, Error> {
    let Some(request) = request else { return Ok(None) };
    match store::find_request(connection, customer_id, request.id).await? {
        Some((order, hash)) if hash == request.hash => Ok(Some(order)),
        Some(_) => Err(Error::RequestIdReused(request.id)),
        None => Ok(None),
    }
}

/// PostgreSQL keeps microseconds; what is answered must equal what is read later.
fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(now.nanosecond() / 1_000 * 1_000).unwrap_or(now)
}

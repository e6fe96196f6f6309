//! The use cases. Each owns one transaction: domain rows first, events last.

use std::time::Duration;

use outbox::UnitOfWork;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    domain::{self, Command, Event, Order, Placed},
    error::Error,
    messages,
    store::{self, Filter, Page, Request, StoredEvent, StoredOrder},
};

/// The order service's use cases.
#[derive(Clone, Debug)]
pub struct Orders {
    pool: PgPool,
    payment_deadline: Duration,
}

impl Orders {
    /// Use cases on this database; a payment request is void after the deadline.
    pub fn new(pool: PgPool, payment_deadline: Duration) -> Self {
        Self { pool, payment_deadline }
    }

    /// Accepts an order, or finds the one that this request has made before.
    pub async fn create(
        &self,
        placed: Placed,
        token: &str,
        request: Option<Request>,
    ) -> Result<StoredOrder, Error> {
        let at = now();
        let first = Event::OrderPlaced(placed.clone());
        let order = domain::evolve(Uuid::now_v7(), None, &first);
        let mut work = UnitOfWork::begin(&self.pool).await?;
        if !store::insert(&mut work, &order, request.as_ref(), at).await? {
            return repeated(&mut work, &order.customer_id, request).await;
        }
        store::append(&mut work, order.id, 1, &[first], at).await?;
        work.commit(messages::placed(&order, &placed, token, at, at + self.payment_deadline)).await?;
        Ok(StoredOrder { order, created_at: at, updated_at: at })
    }

    /// Cancels an order; what was charged is refunded before it ends. Repeating it is no error.
    pub async fn cancel(&self, order_id: Uuid) -> Result<StoredOrder, Error> {
        let mut work = UnitOfWork::begin(&self.pool).await?;
        let (order, events) = apply(&mut work, order_id, Command::Cancel).await?;
        work.commit(events).await?;
        Ok(order)
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

    /// The transitions of an order, each with the order after it.
    pub async fn transitions(&self, order_id: Uuid) -> Result<Vec<(Order, StoredEvent)>, Error> {
        let history = store::history(&mut *self.pool.acquire().await?, order_id).await?;
        if history.is_empty() {
            return Err(Error::NotFound(order_id));
        }
        let mut state = None;
        let transitions = history.into_iter().map(|stored| {
            let order = domain::evolve(order_id, state.take(), &stored.event);
            state = Some(order.clone());
            (order, stored)
        });
        Ok(transitions.collect())
    }

    /// One page of orders, the newest first.
    pub async fn list(&self, filter: &Filter, before: Option<Uuid>, limit: i64) -> Result<Page, Error> {
        Ok(store::list(&mut *self.pool.acquire().await?, filter, before, limit).await?)
    }
}

/// Applies a command inside a transaction: locks the order, writes its new state, returns what is to be told.
pub async fn apply(
    connection: &mut PgConnection,
    order_id: Uuid,
    command: Command,
) -> Result<(StoredOrder, Vec<outbox::Event>), Error> {
    let mut stored = store::lock(connection, order_id).await?.ok_or(Error::NotFound(order_id))?;
    let caused = domain::decide(&stored.order, command)?;
    if caused.is_empty() {
        return Ok((stored, Vec::new()));
    }
    let at = now();
    let first_version = stored.order.version + 1;
    let mut told = Vec::new();
    for event in &caused {
        stored.order = domain::evolve(order_id, Some(stored.order), event);
        told.extend(messages::of(&stored.order, event));
    }
    store::append(connection, order_id, first_version, &caused, at).await?;
    store::update(connection, &stored.order, at).await?;
    stored.updated_at = at;
    Ok((stored, told))
}

async fn repeated(
    connection: &mut PgConnection,
    customer_id: &str,
    request: Option<Request>,
) -> Result<StoredOrder, Error> {
    // Only a request id can collide; order and payment ids were drawn a moment ago.
    let Some(request) = request else { return Err(sqlx::Error::RowNotFound.into()) };
    let found = store::find_request(connection, customer_id, request.id).await?;
    let (order, hash) = found.ok_or(sqlx::Error::RowNotFound)?;
    if hash == request.hash { Ok(order) } else { Err(Error::RequestIdReused(request.id)) }
}

/// PostgreSQL keeps microseconds; what is answered must equal what is read later.
fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(now.nanosecond() / 1_000 * 1_000).unwrap_or(now)
}

//! The use cases. Each owns one transaction: domain rows first, events last. Orders that are placed at the same time share
//! one.

mod place;

use std::{collections::BTreeMap, time::Duration};

use outbox::UnitOfWork;
use service::Batcher;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use tracing::{Span, info_span};
use uuid::Uuid;

use crate::{
    app::place::Placement,
    domain::{self, Command, Draft, Event, Order, PaymentToken, Resolution, Wait},
    error::Error,
    messages::Telling,
    metrics::{Happened, Metrics},
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
    metrics: Metrics,
    placements: Batcher<Placement, Result<StoredOrder, Error>>,
}

/// An order after its last change.
struct Change {
    stored: StoredOrder,
    events: Vec<(Uuid, StoredEvent)>,
    told: Vec<outbox::Event>,
    happened: Vec<Happened>,
}

impl Orders {
    /// Use cases on this database.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(pool: PgPool, deadlines: Deadlines, metrics: Metrics) -> Self {
        let placements = Batcher::new(place::MOST_AT_ONCE, {
            let (pool, metrics) = (pool.clone(), metrics.clone());
            move |placements| place::all(pool.clone(), deadlines, metrics.clone(), placements)
        });
        Self { pool, deadlines, metrics, placements }
    }

    /// Accepts a checked draft as an order, or finds the one that this request has made before. Durable on return.
    pub async fn create(
        &self,
        draft: Draft,
        token_hash: String,
        request: Option<Request>,
    ) -> Result<StoredOrder, Error> {
        let placement = Placement { draft, token_hash, request, span: Span::current() };
        self.placements.submit(placement).await.unwrap_or(Err(Error::Lost))
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

    /// Undoes, asks again or parks at most `limit` orders whose deadline had passed at `horizon`. Returns how many have
    /// changed. One that cannot be changed is left out and does not keep the others.
    pub async fn pass_deadlines(&self, horizon: OffsetDateTime, limit: i64) -> Result<usize, Error> {
        let mut work = UnitOfWork::begin(&self.pool).await?;
        let overdue = store::lock_overdue(&mut work, horizon, limit).await?;
        match self.pass(work, &overdue, horizon).await {
            Err(error) if !is_gone(&error) => {
                let mut changed = 0;
                for order_id in overdue {
                    let work = UnitOfWork::begin(&self.pool).await?;
                    match self.pass(work, &[order_id], horizon).await {
                        Ok(passed) => changed += passed,
                        Err(error) => tracing::error!(%order_id, %error, "a deadline cannot pass"),
                    }
                }
                Ok(changed)
            }
            passed => passed,
        }
    }

    async fn pass(
        &self,
        mut work: UnitOfWork,
        overdue: &[Uuid],
        horizon: OffsetDateTime,
    ) -> Result<usize, Error> {
        let mut orders = Locked::lock(&mut work, overdue, self.deadlines).await?;
        let (mut told, mut passed) = (Vec::new(), Vec::new());
        for order_id in overdue {
            let waits =
                orders.get(*order_id).and_then(|stored| Some((stored.deadline?, stored.order.waits_for()?)));
            // Else an answer was faster.
            let Some((_, wait)) = waits.filter(|(deadline, _)| *deadline <= horizon) else { continue };
            // Nobody has asked for it, so it begins a trace.
            let span = info_span!(parent: None, "pass deadline", otel.kind = "internal", %order_id);
            telemetry::span::set_parent(&span, None);
            let events = span.in_scope(|| {
                let (stored, events) = orders.apply(*order_id, Command::DeadlinePassed)?;
                let (status, waits_for) = (stored.order.status, stored.order.waits_for());
                tracing::warn!(?status, ?waits_for, "a deadline has passed");
                Ok::<_, Error>(events)
            })?;
            if !events.is_empty() {
                passed.push(wait);
            }
            told.extend(events);
        }
        let happened = orders.take_happened();
        orders.write(&mut work).await?;
        work.commit(told).await?;
        self.metrics.count(&happened);
        for wait in &passed {
            self.metrics.deadline_passed(*wait);
        }
        Ok(passed.len())
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
        let mut orders = Locked::lock(&mut work, &[order_id], self.deadlines).await?;
        let (stored, told) = orders.apply(order_id, command)?;
        let (stored, happened) = (stored.clone(), orders.take_happened());
        orders.write(&mut work).await?;
        work.commit(told).await?;
        self.metrics.count(&happened);
        Ok(stored)
    }
}

impl Deadlines {
    /// An order as its first event makes it.
    fn begin(self, order_id: Uuid, event: Event) -> (StoredOrder, StoredEvent) {
        let at = now();
        let order = domain::evolve(order_id, None, &event);
        let deadline = self.of(&order, at);
        let event = StoredEvent { version: order.version, event, occurred_at: at };
        (StoredOrder { order, created_at: at, updated_at: at, deadline }, event)
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
    let mut orders = Locked::lock(connection, &[order_id], deadlines).await?;
    let (stored, told) = orders.apply(order_id, command)?;
    let stored = stored.clone();
    orders.write(connection).await?;
    Ok((stored, told))
}

/// Orders that one transaction changes: locked by one statement, changed in memory, written by two.
pub struct Locked {
    orders: BTreeMap<Uuid, LockedOrder>,
    events: Vec<(Uuid, StoredEvent)>,
    happened: Vec<Happened>,
    deadlines: Deadlines,
}

struct LockedOrder {
    stored: StoredOrder,
    token: Option<PaymentToken>,
    /// The version that is stored.
    before: i32,
}

impl Locked {
    /// Locks those of these orders that exist, until the transaction ends.
    pub async fn lock(
        connection: &mut PgConnection,
        order_ids: &[Uuid],
        deadlines: Deadlines,
    ) -> sqlx::Result<Self> {
        let orders = store::lock(connection, order_ids).await?.into_iter().map(|(stored, token)| {
            let before = stored.order.version;
            (stored.order.id, LockedOrder { stored, token, before })
        });
        Ok(Self { orders: orders.collect(), events: Vec::new(), happened: Vec::new(), deadlines })
    }

    /// One of the orders, as it is by now.
    pub fn get(&self, order_id: Uuid) -> Option<&StoredOrder> {
        self.orders.get(&order_id).map(|order| &order.stored)
    }

    /// Applies a command to one of the orders; returns it as it is then, and what is to be told.
    pub fn apply(
        &mut self,
        order_id: Uuid,
        command: Command,
    ) -> Result<(&StoredOrder, Vec<outbox::Event>), Error> {
        let order = self.orders.get_mut(&order_id).ok_or(Error::NotFound(order_id))?;
        let caused = domain::decide(&order.stored.order, command)?;
        if caused.is_empty() {
            return Ok((&order.stored, Vec::new()));
        }
        let Change { stored, events, told, happened } =
            unfold(order.stored.clone(), caused, order.token.as_ref(), self.deadlines);
        self.events.extend(events);
        self.happened.extend(happened);
        order.stored = stored;
        Ok((&order.stored, told))
    }

    /// What is to be counted of what was applied since this was last asked, once it is committed.
    pub fn take_happened(&mut self) -> Vec<Happened> {
        std::mem::take(&mut self.happened)
    }

    /// Writes what has changed.
    pub async fn write(self, connection: &mut PgConnection) -> sqlx::Result<()> {
        if self.events.is_empty() {
            return Ok(());
        }
        store::append(connection, &self.events).await?;
        let changed = self.orders.values().filter(|order| order.stored.order.version != order.before);
        let changed: Vec<(&StoredOrder, i32)> = changed.map(|order| (&order.stored, order.before)).collect();
        store::update(connection, &changed).await
    }
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
    let (mut events, mut told, mut happened) = (Vec::with_capacity(caused.len()), Vec::new(), Vec::new());
    for event in caused {
        let after = domain::evolve(order.id, Some(order.clone()), &event);
        let event = StoredEvent { version: after.version, event, occurred_at: at };
        let deadline = deadlines.of(&after, at);
        let telling = Telling { before: Some(&order), event: &event, after: &after, deadline, token };
        told.extend(telling.events());
        happened.extend(Happened::by(&event.event, Some(&order), &after, before.created_at, at));
        events.push((order.id, event));
        order = after;
    }
    let deadline = deadlines.of(&order, at);
    Change { stored: StoredOrder { order, updated_at: at, deadline, ..before }, events, told, happened }
}

/// Whether it passes by itself.
fn is_gone(error: &Error) -> bool {
    match error {
        Error::Sql(error) | Error::Outbox(outbox::Error::Sql(error)) => service::status::is_gone(error),
        _ => false,
    }
}

/// PostgreSQL keeps microseconds; what is answered must equal what is read later.
fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(now.nanosecond() / 1_000 * 1_000).unwrap_or(now)
}

//! Folds histories into rows of the view.

use sqlx::{FromRow as _, PgConnection, Row as _, postgres::PgRow, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Progress;
use crate::{
    domain::{self, Event, Order},
    store::StoredEvent,
};

/// Events that are read at a time, each page in a transaction of its own: none is kept open for long. The largest first
/// events have 100 kB.
const PAGE: i64 = 4_000;

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Read {
    pub events: u64,
    pub orders: u64,
}

/// An order with the times that its history gives it.
struct Folded {
    order: Order,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

/// Folds events that come order by order.
#[derive(Default)]
pub struct Fold {
    current: Option<Folded>,
    done: Vec<Folded>,
}

/// Folds the whole history into the rebuilt table.
pub async fn history(
    connection: &mut PgConnection,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> anyhow::Result<Read> {
    let (mut fold, mut read, mut after) = (Fold::default(), Read::default(), (Uuid::nil(), 0));
    loop {
        let page = sqlx::query(include_str!("../sql/rebuild/page.sql"))
            .bind(after.0)
            .bind(after.1)
            .bind(PAGE)
            .fetch_all(&mut *connection)
            .await?;
        for row in &page {
            after = fold.add(row)?;
        }
        read.events += page.len() as u64;
        let ended = (page.len() as i64) < PAGE;
        if ended {
            fold.end();
        }
        read.orders += fold.write(connection).await? as u64;
        progress(Progress::Reading { events: read.events, orders: read.orders });
        if ended {
            return Ok(read);
        }
    }
}

impl Fold {
    /// Goes on with the next event; returns its place.
    pub fn add(&mut self, row: &PgRow) -> anyhow::Result<(Uuid, i32)> {
        let order_id: Uuid = row.try_get("order_id")?;
        let StoredEvent { version, event, occurred_at } = StoredEvent::from_row(row)?;
        if self.current.as_ref().is_some_and(|folded| folded.order.id != order_id) {
            self.end();
        }
        let (before, created_at) = match self.current.take() {
            Some(Folded { order, created_at, .. }) => (Some(order), created_at),
            None => (None, occurred_at),
        };
        let begins = matches!(event, Event::OrderPlaced(_));
        let known = before.as_ref().map_or(0, |order| order.version);
        anyhow::ensure!(
            version == known + 1 && begins == before.is_none(),
            "the history of order {order_id} is damaged: {} of version {version} cannot follow version {known}",
            event.name(),
        );
        let order = domain::evolve(order_id, before, &event);
        self.current = Some(Folded { order, created_at, updated_at: occurred_at });
        Ok((order_id, version))
    }

    /// No further event of the current order comes.
    pub fn end(&mut self) {
        self.done.extend(self.current.take());
    }

    /// Versions of the orders that are complete.
    pub fn versions(&self) -> impl Iterator<Item = (Uuid, i32)> + '_ {
        self.done.iter().map(|folded| (folded.order.id, folded.order.version))
    }

    /// Writes the orders that are complete; returns how many.
    pub async fn write(&mut self, connection: &mut PgConnection) -> sqlx::Result<usize> {
        let rows = std::mem::take(&mut self.done);
        if rows.is_empty() {
            return Ok(0);
        }
        fn column<'a, T>(rows: &'a [Folded], value: impl Fn(&'a Folded) -> T) -> Vec<T> {
            rows.iter().map(value).collect()
        }
        sqlx::query(include_str!("../sql/rebuild/insert.sql"))
            .bind(column(&rows, |row| row.order.id))
            .bind(column(&rows, |row| row.order.customer_id.as_str()))
            .bind(column(&rows, |row| row.order.status.name()))
            .bind(column(&rows, |row| row.order.reason.map(|reason| reason.name())))
            .bind(column(&rows, |row| row.order.attention.map(|reason| reason.name())))
            .bind(column(&rows, |row| row.order.version))
            .bind(column(&rows, |row| Json(&row.order.items)))
            .bind(column(&rows, |row| row.order.total.currency.as_str()))
            .bind(column(&rows, |row| row.order.total.minor))
            .bind(column(&rows, |row| row.order.payment_id))
            .bind(column(&rows, |row| row.order.stock.name()))
            .bind(column(&rows, |row| row.order.payment.name()))
            .bind(column(&rows, |row| row.order.outcome.map(|outcome| outcome.name())))
            .bind(column(&rows, |row| row.order.repeats))
            .bind(column(&rows, |row| row.order.shipment.as_ref().map(Json)))
            .bind(column(&rows, |row| row.created_at))
            .bind(column(&rows, |row| row.updated_at))
            .bind(column(&rows, |row| row.order.waits_for().is_some()))
            .execute(connection)
            .await?;
        Ok(rows.len())
    }
}

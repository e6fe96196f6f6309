//! Placing orders: those that arrive while a transaction is on its way share the next one.
//!
//! What is wrong with one of them is found before anything is written, so that it never fails its neighbours.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use outbox::{MAX_EVENT_BYTES, UnitOfWork};
use sqlx::{PgConnection, PgPool};
use telemetry::SpanContext;
use tracing::{Instrument as _, Span, field::display, info_span};
use uuid::Uuid;

use super::{Change, Deadlines, is_gone};
use crate::{
    domain::{self, Draft, Event, Offer, PaymentToken},
    error::Error,
    metrics::Metrics,
    store::{self, Request, StoredOrder},
};

/// How many orders one transaction takes.
pub const MOST_AT_ONCE: usize = 200;
/// How many callers the span of a batch is linked to: as many as OpenTelemetry keeps.
const MOST_LINKS: usize = 128;

/// An order that somebody wants to place.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Checked, without prices.
    pub draft: Draft,
    /// SHA-256 of the payment token, in hexadecimal.
    pub token_hash: String,
    /// Under which the caller may repeat it.
    pub request: Option<Request>,
    /// In whose trace its events are.
    pub span: Span,
}

/// Places each of them, or says why not; in their order.
pub async fn all(
    pool: PgPool,
    deadlines: Deadlines,
    metrics: Metrics,
    placements: Vec<Placement>,
) -> Vec<Result<StoredOrder, Error>> {
    match together(&pool, deadlines, &metrics, &placements).await {
        Ok(answers) => answers,
        // Something that PostgreSQL does not like about one of them.
        Err(error) if placements.len() > 1 && !is_gone(&error) => {
            let mut answers = Vec::with_capacity(placements.len());
            for placement in placements {
                let alone = together(&pool, deadlines, &metrics, &[placement]).await;
                answers.push(alone.and_then(|mut answers| answers.pop().unwrap_or(Err(Error::Lost))));
            }
            answers
        }
        Err(error) => {
            let error = Arc::new(error);
            placements.iter().map(|_| Err(Error::Together(Arc::clone(&error)))).collect()
        }
    }
}

/// One transaction, in its span. An error is that of all.
async fn together(
    pool: &PgPool,
    deadlines: Deadlines,
    metrics: &Metrics,
    placements: &[Placement],
) -> Result<Vec<Result<StoredOrder, Error>>, Error> {
    transact(pool, deadlines, metrics, placements).instrument(span(placements)).await
}

/// The span of what is done for all of them: a lone caller's own, else one that is linked to those of the callers.
fn span(placements: &[Placement]) -> Span {
    if let [only] = placements {
        return only.span.clone();
    }
    let span = info_span!(parent: None, "place batch", otel.kind = "internal", orders = placements.len());
    let callers = placements.iter().map(|placement| telemetry::span::context(&placement.span));
    for caller in callers.filter(SpanContext::is_sampled).take(MOST_LINKS) {
        telemetry::span::link(&span, &caller);
    }
    span
}

async fn transact(
    pool: &PgPool,
    deadlines: Deadlines,
    metrics: &Metrics,
    placements: &[Placement],
) -> Result<Vec<Result<StoredOrder, Error>>, Error> {
    let mut work = UnitOfWork::begin(pool).await?;
    // A repeat waits for the first one, or it could be refused for its price while the first is still being accepted.
    let requests: Vec<Vec<u8>> = placements.iter().filter_map(Placement::key).collect();
    work.lock(&requests).await?;
    let items = placements.iter().flat_map(|placement| &placement.draft.items);
    let product_ids: BTreeSet<&str> = items.map(|item| item.product_id.as_str()).collect();
    let offers = store::offers(&mut work, &product_ids.into_iter().collect::<Vec<_>>()).await?;
    let mut changes: Vec<Result<Change, Error>> =
        placements.iter().map(|placement| placement.price(&offers, deadlines)).collect();

    let new: Vec<(&StoredOrder, &PaymentToken, Option<&Request>)> = changes
        .iter()
        .zip(placements)
        .filter_map(|(change, placement)| {
            let stored = &change.as_ref().ok()?.stored;
            Some((stored, &placement.draft.payment_token, placement.request.as_ref()))
        })
        .collect();
    let inserted: HashSet<Uuid> = store::insert(&mut work, &new).await?;

    let (mut answers, mut events) = (Vec::with_capacity(placements.len()), Vec::new());
    let (mut told, mut happened) = (Vec::new(), Vec::new());
    for (change, placement) in changes.drain(..).zip(placements) {
        let refused = match change {
            Ok(change) if inserted.contains(&change.stored.order.id) => {
                events.extend(change.events);
                told.extend(change.told);
                happened.extend(change.happened);
                placement.is_about(&change.stored);
                answers.push(Ok(change.stored));
                continue;
            }
            // Only a request id can collide; order and payment ids were drawn a moment ago.
            Ok(_) => Error::Sql(sqlx::Error::RowNotFound),
            Err(refused) => refused,
        };
        // What was accepted at yesterday's price stays accepted.
        answers.push(match placement.repeated(&mut work).await? {
            Some(repeated) => repeated.inspect(|stored| placement.is_about(stored)),
            None => Err(refused),
        });
    }
    if !events.is_empty() {
        store::append(&mut work, &events).await?;
        work.commit(told).await?;
        metrics.count(&happened);
    }
    Ok(answers)
}

impl Placement {
    /// Says in the caller's trace and log which order it is.
    fn is_about(&self, stored: &StoredOrder) {
        self.span.record("order_id", display(stored.order.id));
    }

    /// What a repeat of it shares with it.
    fn key(&self) -> Option<Vec<u8>> {
        let request = self.request.as_ref()?;
        Some([self.draft.customer_id.as_bytes(), request.id.as_bytes()].concat())
    }

    /// The order that it makes, if it makes one.
    fn price(&self, offers: &HashMap<String, Offer>, deadlines: Deadlines) -> Result<Change, Error> {
        let Draft { customer_id, items, .. } = self.draft.clone();
        let items = domain::price(items, offers).map_err(Error::Unavailable)?;
        let placed = domain::place(customer_id, items, Uuid::now_v7(), self.token_hash.clone());
        let placed = placed.map_err(Error::Invalid)?;
        let change = self.span.in_scope(|| deadlines.begin(Uuid::now_v7(), Event::OrderPlaced(placed)));
        match change.told.iter().find(|event| event.size() > MAX_EVENT_BYTES) {
            None => Ok(change),
            Some(event) => {
                let (topic, size) = (event.topic.to_string(), event.size());
                Err(outbox::Error::TooLarge { topic, size, limit: MAX_EVENT_BYTES }.into())
            }
        }
    }

    /// What this request has made before, if it has made something.
    async fn repeated(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<Result<StoredOrder, Error>>, Error> {
        let Some(request) = &self.request else { return Ok(None) };
        let found = store::find_request(connection, &self.draft.customer_id, request.id).await?;
        Ok(found.map(
            |(order, hash)| {
                if hash == request.hash { Ok(order) } else { Err(Error::RequestIdReused(request.id)) }
            },
        ))
    }
}

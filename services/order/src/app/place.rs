//! Placing orders: those that arrive while a transaction is on its way share the next one.
//!
//! What is wrong with one of them is found before anything is written, so that it never fails its neighbours.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use outbox::UnitOfWork;
use sqlx::{PgConnection, PgPool};
use tracing::{Instrument as _, Span, field::display, info_span};
use uuid::Uuid;

use super::{Deadlines, is_gone};
use crate::{
    domain::{self, Draft, Event, Offer, PaymentToken},
    error::Error,
    messages::Telling,
    metrics::{Happened, Metrics},
    store::{self, Request, StoredEvent, StoredOrder},
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

/// The span of what is done for all of them: a lone caller's own, else one that is linked with those of the callers whose
/// traces are recorded.
fn span(placements: &[Placement]) -> Span {
    if let [only] = placements {
        return only.span.clone();
    }
    let callers =
        placements.iter().map(|placement| (&placement.span, telemetry::span::context(&placement.span)));
    let sampled: Vec<_> = callers.filter(|(_, context)| context.is_sampled()).take(MOST_LINKS).collect();
    if sampled.is_empty() {
        return Span::none();
    }
    let orders = placements.len() as i64;
    let batch = info_span!(parent: None, "place batch", otel.kind = "internal", orders);
    telemetry::span::set_parent(&batch, None);
    sampled.iter().for_each(|(_, context)| telemetry::span::link(&batch, context));
    let context = telemetry::span::context(&batch);
    sampled.iter().for_each(|(caller, _)| telemetry::span::link(caller, &context));
    batch
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
    let mut priced: Vec<Result<(StoredOrder, StoredEvent), Error>> =
        placements.iter().map(|placement| placement.price(&offers, deadlines)).collect();

    let new: Vec<(&StoredOrder, &PaymentToken, Option<&Request>)> = priced
        .iter()
        .zip(placements)
        .filter_map(|(priced, placement)| {
            let (stored, _) = priced.as_ref().ok()?;
            Some((stored, &placement.draft.payment_token, placement.request.as_ref()))
        })
        .collect();
    let inserted: HashSet<Uuid> = store::insert(&mut work, &new).await?;

    let (mut answers, mut events) = (Vec::with_capacity(placements.len()), Vec::new());
    let (mut told, mut happened) = (Vec::new(), Vec::new());
    for (priced, placement) in priced.drain(..).zip(placements) {
        let refused = match priced {
            Ok((stored, event)) if inserted.contains(&stored.order.id) => {
                // Not before: telling makes spans, which would be of events that never were.
                let (tells, happens) = placement.tell(&stored, &event);
                told.extend(tells);
                happened.extend(happens);
                events.push((stored.order.id, event));
                placement.is_about(&stored);
                answers.push(Ok(stored));
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

    /// The order that it makes, if it makes one. Whatever it is, its events are small enough: a checked draft is.
    fn price(
        &self,
        offers: &HashMap<String, Offer>,
        deadlines: Deadlines,
    ) -> Result<(StoredOrder, StoredEvent), Error> {
        let Draft { customer_id, items, .. } = self.draft.clone();
        let items = domain::price(items, offers).map_err(Error::Unavailable)?;
        let placed = domain::place(customer_id, items, Uuid::now_v7(), self.token_hash.clone());
        let placed = placed.map_err(Error::Invalid)?;
        Ok(deadlines.begin(Uuid::now_v7(), Event::OrderPlaced(placed)))
    }

    /// What others learn of the order, in the caller's trace, and what is to be counted.
    fn tell(&self, stored: &StoredOrder, event: &StoredEvent) -> (Vec<outbox::Event>, Option<Happened>) {
        let (after, deadline, at) = (&stored.order, stored.deadline, stored.created_at);
        self.span.in_scope(|| {
            let telling = Telling { before: None, event, after, deadline, token: None };
            (telling.events(), Happened::by(&event.event, None, after, at, at))
        })
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

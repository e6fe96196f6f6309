//! Use cases of billing. What follows from a command is written in one transaction: payment, ledger, and the events last.

use std::{collections::HashMap, sync::Arc};

use outbox::{Event, Source, UnitOfWork};
use proto::{
    billing::v1::{PaymentFailed, PaymentFailure, PaymentRefunded, PaymentSucceeded},
    money::v1 as money,
    notification::v1::{NotificationKind, NotificationRequested},
};
use service::Batcher;
use sqlx::{PgConnection, PgPool};
use telemetry::SpanContext;
use tokio::sync::Notify;
use tracing::{Instrument as _, Span, info_span};
use uuid::Uuid;

use crate::{
    domain::{Change, Command, Failure, Money, Payment, Posting, Status},
    error::Error,
    metrics::Metrics,
    provider::Provider,
    store,
};

/// Logical topic of the answers to `payment-requests`.
pub const PAYMENT_RESULTS: &str = "payment-results";
/// Logical topic of what the customer is to be told.
pub const NOTIFICATION_EVENTS: &str = "notification-events";

/// How many outcomes one transaction takes.
const MOST_AT_ONCE: usize = 200;
/// How many links the span of such a transaction has at most: as many as the SDK keeps by default.
const MOST_LINKS: usize = 128;

const SOURCE: Source = Source::new("/orderly/billing");

/// The payments of every order.
#[derive(Clone, Debug)]
pub struct Payments {
    pub(crate) pool: PgPool,
    pub(crate) provider: Provider,
    metrics: Metrics,
    wake: Arc<Notify>,
    /// Whether a refund is owed afterwards; `None` where it was not settled.
    settlements: Batcher<Settlement, Option<bool>>,
}

impl Payments {
    /// Payments in this database, taken by this provider.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(pool: PgPool, provider: Provider, metrics: Metrics) -> Self {
        let settlements = Batcher::new(MOST_AT_ONCE, {
            let (pool, metrics) = (pool.clone(), metrics.clone());
            move |settlements: Vec<Settlement>| {
                let (pool, metrics) = (pool.clone(), metrics.clone());
                async move {
                    match settle_all(&pool, &metrics, &settlements).await {
                        Ok(refunds) => refunds.into_iter().map(Some).collect(),
                        Err(error) => {
                            tracing::debug!(%error, "not settled together");
                            vec![None; settlements.len()]
                        }
                    }
                }
            }
        });
        Self { pool, provider, metrics, wake: Arc::default(), settlements }
    }

    /// What is counted of them.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Wakes the dispatcher: a call to the provider is owed.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Reads one payment.
    pub async fn payment(&self, payment_id: Uuid) -> Result<Payment, Error> {
        store::find(&self.pool, payment_id).await?.ok_or(Error::NotFound(payment_id))
    }

    /// At most `limit` payments, the newest first, below `before`; only that of `order_id` where given.
    pub async fn payments(
        &self,
        order_id: Option<Uuid>,
        before: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<Payment>, Error> {
        Ok(store::list(&self.pool, order_id, before, limit).await?)
    }

    /// Lets `command` take effect on a payment. Repeats change nothing. What is settled at the same time shares one
    /// transaction.
    pub async fn settle(&self, payment_id: Uuid, command: &Command) -> Result<(), outbox::Error> {
        let settlement = Settlement { payment_id, command: command.clone(), span: Span::current() };
        let refunds = match self.settlements.submit(settlement.clone()).await.flatten() {
            Some(refunds) => refunds,
            // The others may be at fault.
            None => settle_all(&self.pool, &self.metrics, &[settlement]).await?.contains(&true),
        };
        if refunds {
            self.wake.notify_one();
        }
        Ok(())
    }
}

/// A command that is to take effect on a payment.
#[derive(Clone, Debug)]
struct Settlement {
    payment_id: Uuid,
    command: Command,
    /// In whose trace the announcements are.
    span: Span,
}

/// Settles all in one transaction; says of each whether a refund is owed now.
async fn settle_all(
    pool: &PgPool,
    metrics: &Metrics,
    settlements: &[Settlement],
) -> Result<Vec<bool>, outbox::Error> {
    settle_in_one(pool, metrics, settlements).instrument(shared_span(settlements)).await
}

/// Where the transaction of settlements runs: one alone in its own span, more in a span that is linked with each.
fn shared_span(settlements: &[Settlement]) -> Span {
    if let [settlement] = settlements {
        return settlement.span.clone();
    }
    let spans =
        settlements.iter().map(|settlement| (&settlement.span, telemetry::span::context(&settlement.span)));
    let sampled: Vec<_> = spans.filter(|(_, context)| context.is_sampled()).take(MOST_LINKS).collect();
    if sampled.is_empty() {
        return Span::none();
    }
    let batch = info_span!(parent: None, "settle batch", payments = settlements.len() as i64);
    telemetry::span::set_parent(&batch, None);
    sampled.iter().for_each(|(_, context)| telemetry::span::link(&batch, context));
    let context = telemetry::span::context(&batch);
    sampled.iter().for_each(|(span, _)| telemetry::span::link(span, &context));
    batch
}

async fn settle_in_one(
    pool: &PgPool,
    metrics: &Metrics,
    settlements: &[Settlement],
) -> Result<Vec<bool>, outbox::Error> {
    let mut work = UnitOfWork::begin(pool).await?;
    let ids: Vec<Uuid> = settlements.iter().map(|settlement| settlement.payment_id).collect();
    let mut payments: HashMap<Uuid, Payment> = store::lock(&mut work, &ids)
        .await?
        .into_iter()
        .map(|payment| (payment.payment_id, payment))
        .collect();
    let mut ledger = Ledger::default();
    let (mut events, mut refunds) = (Vec::new(), Vec::with_capacity(settlements.len()));
    for Settlement { payment_id, command, span } in settlements {
        let payment = payments.get_mut(payment_id).ok_or(sqlx::Error::RowNotFound)?;
        events.extend(span.in_scope(|| ledger.carry_out(payment, command)));
        refunds.push(payment.status == Status::Refunding);
    }
    ledger.write(&mut work, None).await?;
    work.commit(events).await?;
    metrics.came_into(&ledger.statuses);
    Ok(refunds)
}

/// Writes what follows from `command` for a locked payment. Returns what is to be announced, and the statuses that the
/// payment came into.
pub async fn carry_out(
    connection: &mut PgConnection,
    payment: &mut Payment,
    command: &Command,
) -> Result<(Vec<Event>, Vec<Status>), sqlx::Error> {
    let mut ledger = Ledger::default();
    let events = ledger.carry_out(payment, command);
    ledger.write(connection, Some(&telemetry::propagation::current())).await?;
    Ok((events, ledger.statuses))
}

/// What is to be written about locked payments.
#[derive(Default)]
struct Ledger {
    entries: Vec<(Payment, Vec<Posting>)>,
    /// The version that is stored, and the payment as it is now.
    changed: Vec<(i32, Payment)>,
    /// What payments came into, one after the other.
    statuses: Vec<Status>,
}

impl Ledger {
    fn carry_out(&mut self, payment: &mut Payment, command: &Command) -> Vec<Event> {
        let changes = payment.decide(command);
        if changes.is_empty() {
            return vec![];
        }
        let (before, version) = (payment.status, payment.version);
        let mut events = Vec::new();
        for change in &changes {
            self.entries.push((payment.clone(), payment.postings(change)));
            let status = payment.status;
            payment.evolve(change);
            self.statuses.extend((payment.status != status).then_some(payment.status));
            events.extend(announce(payment, change));
        }
        match self.changed.iter_mut().find(|(_, changed)| changed.payment_id == payment.payment_id) {
            Some((_, changed)) => changed.clone_from(payment),
            None => self.changed.push((version, payment.clone())),
        }
        tracing::info!(
            payment_id = %payment.payment_id,
            order_id = %payment.order_id,
            before = before.as_str(),
            after = payment.status.as_str(),
            version = payment.version,
            "payment changed"
        );
        events
    }

    async fn write(
        &self,
        connection: &mut PgConnection,
        requested_in: Option<&SpanContext>,
    ) -> Result<(), sqlx::Error> {
        if self.changed.is_empty() {
            return Ok(());
        }
        store::post(connection, &self.entries).await?;
        store::save(connection, &self.changed, requested_in).await
    }
}

/// What others learn of a change; `payment` is already in the version that the change made.
pub fn announce(payment: &Payment, change: &Change) -> Vec<Event> {
    let (payment_id, order_id) = (payment.payment_id.to_string(), payment.order_id.to_string());
    match change {
        Change::RefundNoted | Change::Refunding => vec![],
        Change::Succeeded { .. } => {
            let receipt = NotificationRequested {
                order_id: order_id.clone(),
                customer_id: payment.customer_id.clone(),
                kind: NotificationKind::PaymentReceipt.into(),
                amount: Some(to_proto(&payment.amount)),
                reason: String::new(),
            };
            vec![
                event(PAYMENT_RESULTS, payment, &PaymentSucceeded { payment_id, order_id }),
                event(NOTIFICATION_EVENTS, payment, &receipt),
            ]
        }
        Change::Failed(failure) => {
            let failed = PaymentFailed { payment_id, order_id, failure: failure_to_proto(*failure).into() };
            vec![event(PAYMENT_RESULTS, payment, &failed)]
        }
        Change::Refunded { minor } | Change::RefundConfirmed { minor } => {
            let amount = Money { currency: payment.amount.currency.clone(), minor: *minor };
            let refunded = PaymentRefunded { payment_id, order_id, amount: Some(to_proto(&amount)) };
            vec![event(PAYMENT_RESULTS, payment, &refunded)]
        }
    }
}

/// Money as others read it.
pub fn to_proto(money: &Money) -> money::Money {
    money::Money { currency: money.currency.clone(), minor: money.minor }
}

/// A failure as others read it.
pub fn failure_to_proto(failure: Failure) -> PaymentFailure {
    match failure {
        Failure::Declined => PaymentFailure::Declined,
        Failure::InsufficientFunds => PaymentFailure::InsufficientFunds,
        Failure::Expired => PaymentFailure::Expired,
    }
}

fn event<M: prost::Message + prost::Name>(topic: &'static str, payment: &Payment, message: &M) -> Event {
    SOURCE.event(topic, payment.order_id, payment.version, message)
}

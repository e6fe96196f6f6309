//! Use cases of billing. What follows from a command is written in one transaction: payment, ledger, and the events last.

use std::sync::Arc;

use outbox::{Event, Source, UnitOfWork};
use proto::{
    billing::v1::{PaymentFailed, PaymentFailure, PaymentRefunded, PaymentSucceeded},
    money::v1 as money,
    notification::v1::{NotificationKind, NotificationRequested},
};
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    domain::{Change, Command, Failure, Money, Payment, Status},
    error::Error,
    provider::Provider,
    store,
};

/// Logical topic of the answers to `payment-requests`.
pub const PAYMENT_RESULTS: &str = "payment-results";
/// Logical topic of what the customer is to be told.
pub const NOTIFICATION_EVENTS: &str = "notification-events";

const SOURCE: Source = Source::new("/orderly/billing");

/// The payments of every order.
#[derive(Clone, Debug)]
pub struct Payments {
    pub(crate) pool: PgPool,
    pub(crate) provider: Provider,
    wake: Arc<Notify>,
}

impl Payments {
    /// Payments in this database, taken by this provider.
    pub fn new(pool: PgPool, provider: Provider) -> Self {
        Self { pool, provider, wake: Arc::default() }
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

    /// Lets `command` take effect on a payment. Repeats change nothing.
    pub async fn settle(&self, payment_id: Uuid, command: &Command) -> Result<(), outbox::Error> {
        let mut work = UnitOfWork::begin(&self.pool).await?;
        let mut payment = store::lock(&mut work, payment_id).await?.ok_or(sqlx::Error::RowNotFound)?;
        let events = carry_out(&mut work, &mut payment, command).await?;
        work.commit(events).await?;
        if payment.status == Status::Refunding {
            self.wake.notify_one();
        }
        Ok(())
    }
}

/// Writes what follows from `command` for a locked payment, and returns what is to be announced.
pub async fn carry_out(
    connection: &mut PgConnection,
    payment: &mut Payment,
    command: &Command,
) -> Result<Vec<Event>, sqlx::Error> {
    let changes = payment.decide(command);
    if changes.is_empty() {
        return Ok(vec![]);
    }
    let (before, version) = (payment.status, payment.version);
    let mut events = Vec::new();
    for change in &changes {
        store::post(connection, payment, &payment.postings(change)).await?;
        payment.evolve(change);
        events.extend(announce(payment, change));
    }
    store::save(connection, version, payment).await?;
    tracing::info!(
        payment_id = %payment.payment_id,
        order_id = %payment.order_id,
        before = before.as_str(),
        after = payment.status.as_str(),
        version = payment.version,
        "payment changed"
    );
    Ok(events)
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

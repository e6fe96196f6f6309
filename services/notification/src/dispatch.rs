//! Delivers pending notifications: claims them, calls the channel outside any transaction, writes the outcome down.
//!
//! Each channel has a dispatcher of its own, so that none waits while another's other side is down.
//!
//! What a channel does not take for too long is given up and becomes a dead letter beside those of the consumer. For this
//! its row keeps the record that requested it, until its end: a dead letter is that record, byte for byte, whatever made it
//! one, so `orderly dlq` lists, shows and discards it like any other, and a replay gives it to the handler, which makes the
//! notification pending again. A table of its own would have needed its own list, replay, audit and rights. The price is a
//! copy of a small record for each e-mail and webhook that is pending; lines of the log channel have none. No key is held:
//! the record has had its turn, and the order's later notifications go on.

mod lines;
mod output;

use std::{borrow::Cow, error::Error, future::Future, time::Duration};

use consumer::{
    Attempts, Parked, Undelivered,
    dispatch::{Dispatch, Performed},
};
use outbox::{Event, UnitOfWork};
use sqlx::PgPool;
use telemetry::{SpanContext, TraceId};
use tracing::{Instrument as _, Span, info_span, warn};
use uuid::Uuid;

pub use lines::Lines;

use crate::{
    domain,
    metrics::{Metrics, Outcome},
    store::{self, Claimed, Tried},
};

/// After a crash, another dispatcher takes over when this has passed; well above every channel's deadline.
const LEASE: Duration = Duration::from_secs(30);

/// A channel with somebody else at its end.
pub trait Medium: Send + Sync + 'static {
    /// Its name in the database.
    const CHANNEL: &'static str;
    /// Its dispatcher, in logs.
    const NAME: &'static str;
    /// How many attempts run at a time.
    const CONCURRENCY: usize;
    /// Why it has not, as far as is known, taken a notification. Shows neither an address nor a secret.
    type Error: Failure;

    /// The span of one attempt, in which it is delivered. Shows neither an address nor a secret.
    fn span(&self, notification: &Claimed) -> Span;

    /// One attempt, bounded well below a claim's lease; the same notification always has the same id.
    fn deliver(&self, notification: &Claimed) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// What can be said of a failed attempt.
pub trait Failure: Error + Send + Sync + 'static {
    /// Of the few kinds of failure that spans tell apart (`error.type`), the one that this is.
    fn kind(&self) -> Cow<'static, str>;
    /// Whether trying again soon is of no use.
    fn is_permanent(&self) -> bool;
    /// What it tells about what all notifications of the channel depend on.
    fn performed(&self) -> Performed;
}

/// The dispatcher of a channel.
pub struct Deliveries<M> {
    /// Where the intents are.
    pub pool: PgPool,
    /// What delivers them.
    pub medium: M,
    /// How long one is tried.
    pub give_up_after: Duration,
    /// Where it goes then.
    pub dead_letters: Undelivered,
    /// What is counted.
    pub metrics: Metrics,
}

impl<M: Medium> Dispatch for Deliveries<M> {
    type Intent = Claimed;
    const NAME: &'static str = M::NAME;

    fn id(claimed: &Claimed) -> Uuid {
        claimed.notification_id
    }

    async fn claim(&self, limit: i64) -> Result<Vec<Claimed>, sqlx::Error> {
        store::claim(&mut *self.pool.acquire().await?, M::CHANNEL, limit, LEASE).await
    }

    fn trace(claimed: &Claimed) -> Option<TraceId> {
        sampled(claimed).map(|requested| requested.trace_id())
    }

    /// One attempt. When its outcome cannot be written, the claim runs out and the notification is delivered again, with
    /// the same id.
    async fn perform(&self, claimed: Claimed) -> Result<Performed, outbox::Error> {
        let requested = claimed.requested_in();
        let attempt = self.medium.span(&claimed);
        telemetry::span::set_parent(&attempt, requested.as_ref());
        let delivery = self.medium.deliver(&claimed).instrument(attempt.clone()).await;
        if let Err(error) = &delivery {
            attempt.record("otel.status_code", "ERROR").record("error.type", error.kind().as_ref());
        }
        // It ends when the other side has answered, whatever PostgreSQL does.
        drop(attempt);
        let settle = info_span!("settle delivery", order_id = %claimed.order_id);
        telemetry::span::set_parent(&settle, requested.as_ref());
        self.settle(&claimed, delivery).instrument(settle).await
    }
}

impl<M: Medium> Deliveries<M> {
    /// Writes the outcome of an attempt.
    async fn settle(
        &self,
        claimed: &Claimed,
        delivery: Result<(), M::Error>,
    ) -> Result<Performed, outbox::Error> {
        let mut work = UnitOfWork::begin(&self.pool).await?;
        let (performed, outcome, many, given_up) = match delivery {
            Ok(()) => {
                let many = store::delivered(&mut work, &[claimed.notification_id]).await?;
                (Performed::Answered, Outcome::Delivered, many, None)
            }
            Err(error) => {
                let (outcome, many, given_up) = self.failed(&mut work, claimed, &error).await?;
                (error.performed(), outcome, many, given_up)
            }
        };
        let (copy, parked) = given_up.unzip();
        work.commit(copy.unwrap_or_default()).await?;
        self.metrics.count(M::CHANNEL, outcome, many);
        if let Some(parked) = parked {
            parked.report();
        }
        Ok(performed)
    }

    /// Tries again later, or gives it up. Returns how often that has happened, and the dead letter with its copy.
    async fn failed(
        &self,
        work: &mut UnitOfWork,
        claimed: &Claimed,
        error: &M::Error,
    ) -> Result<(Outcome, u64, Option<(Vec<Event>, Parked)>), sqlx::Error> {
        let Claimed { notification_id, order_id, attempts, first_attempt_at, tried_secs, .. } = *claimed;
        let tried_for = Duration::try_from_secs_f64(tried_secs).unwrap_or_default();
        if domain::is_given_up(attempts, tried_for, self.give_up_after)
            && let Some(record) = store::give_up(work, notification_id, attempts).await?
        {
            let (channel, error) = (M::CHANNEL, words(error));
            warn!(%notification_id, %order_id, channel, attempts, error, "notification given up");
            let attempts = Attempts { count: attempts, first_at: first_attempt_at, error };
            let given_up = self.dead_letters.park(work, &record, attempts).await?;
            return Ok((Outcome::Undelivered, 1, Some(given_up)));
        }
        let wait = domain::backoff(attempts, error.is_permanent());
        warn!(
            %notification_id,
            %order_id,
            channel = M::CHANNEL,
            attempt = attempts,
            retry_within_ms = wait.as_millis(),
            error = error as &dyn Error,
            "notification not delivered; trying again"
        );
        let many = store::retry(work, &[Tried { notification_id, attempt: attempts, wait }]).await?;
        Ok((Outcome::Retried, many, None))
    }
}

/// Where the record was processed that requested it, in a trace that is recorded.
fn sampled(claimed: &Claimed) -> Option<SpanContext> {
    claimed.requested_in().filter(SpanContext::is_sampled)
}

/// With what is behind it.
fn words(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}

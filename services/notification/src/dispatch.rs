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

use std::{error::Error, future::Future, time::Duration};

use consumer::{
    Attempts, Undelivered,
    dispatch::{Dispatch, Performed},
};
use outbox::{Event, UnitOfWork};
use sqlx::PgPool;
use tracing::warn;
use uuid::Uuid;

pub use lines::Lines;

use crate::{
    domain,
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

    /// One attempt, bounded well below a claim's lease; the same notification always has the same id.
    fn deliver(&self, notification: &Claimed) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// What can be said of a failed attempt.
pub trait Failure: Error + Send + Sync + 'static {
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

    /// One attempt. When its outcome cannot be written, the claim runs out and the notification is delivered again, with
    /// the same id.
    async fn perform(&self, claimed: Claimed) -> Result<Performed, outbox::Error> {
        let delivery = self.medium.deliver(&claimed).await;
        let mut work = UnitOfWork::begin(&self.pool).await?;
        let (performed, events) = match delivery {
            Ok(()) => {
                store::delivered(&mut work, &[claimed.notification_id]).await?;
                (Performed::Answered, Vec::new())
            }
            Err(error) => (error.performed(), self.failed(&mut work, &claimed, &error).await?),
        };
        work.commit(events).await?;
        Ok(performed)
    }
}

impl<M: Medium> Deliveries<M> {
    /// Tries again later, or gives it up. Returns the copy of the dead letter.
    async fn failed(
        &self,
        work: &mut UnitOfWork,
        claimed: &Claimed,
        error: &M::Error,
    ) -> Result<Vec<Event>, sqlx::Error> {
        let Claimed { notification_id, order_id, attempts, first_attempt_at, tried_secs, .. } = *claimed;
        let tried_for = Duration::try_from_secs_f64(tried_secs).unwrap_or_default();
        if domain::is_given_up(attempts, tried_for, self.give_up_after)
            && let Some(record) = store::give_up(work, notification_id, attempts).await?
        {
            let (channel, error) = (M::CHANNEL, words(error));
            warn!(%notification_id, %order_id, channel, attempts, error, "notification given up");
            let attempts = Attempts { count: attempts, first_at: first_attempt_at, error };
            return self.dead_letters.park(work, &record, attempts).await;
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
        store::retry(work, &[Tried { notification_id, attempt: attempts, wait }]).await?;
        Ok(Vec::new())
    }
}

/// With what is behind it.
fn words(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}

//! Delivers pending notifications: claims them, calls the channel outside any transaction, writes the outcome down.

mod output;

use std::{error::Error, time::Duration};

use consumer::dispatch::{Dispatch, Performed};
use outbox::UnitOfWork;
use sqlx::PgPool;
use tracing::warn;
use uuid::Uuid;

use crate::{
    domain::{self, Channel},
    mail::{DeliveryError, Mailer},
    store::{self, Claimed},
};

/// How many deliveries run at a time.
pub const CONCURRENCY: usize = 16;
/// After a crash, another dispatcher takes over when this has passed; well above the mailer's deadline.
const LEASE: Duration = Duration::from_secs(30);

/// Why a channel has not, as far as is known, taken a notification.
#[derive(Debug, thiserror::Error)]
enum Undelivered {
    #[error(transparent)]
    Email(#[from] DeliveryError),
    #[error(transparent)]
    Log(#[from] output::Error),
}

/// The dispatcher of notifications.
pub struct Deliveries {
    /// Where the intents are.
    pub pool: PgPool,
    /// The e-mail channel.
    pub mailer: Mailer,
}

impl Dispatch for Deliveries {
    type Intent = Claimed;
    const NAME: &'static str = "notifications";

    fn id(claimed: &Claimed) -> Uuid {
        claimed.notification_id
    }

    async fn claim(&self, limit: i64) -> Result<Vec<Claimed>, sqlx::Error> {
        store::claim(&mut *self.pool.acquire().await?, limit, LEASE).await
    }

    /// One attempt. When its outcome cannot be written, the claim runs out and the notification is delivered again,
    /// an e-mail with the same Message-ID, a line with the same notification id.
    async fn perform(&self, claimed: Claimed) -> Result<Performed, outbox::Error> {
        let delivery = self.deliver(&claimed).await;
        let performed = performed(&delivery);
        let mut work = UnitOfWork::begin(&self.pool).await?;
        match delivery {
            Ok(()) => store::delivered(&mut work, claimed.notification_id).await?,
            Err(error) => {
                let permanent = matches!(&error, Undelivered::Email(error) if error.is_permanent());
                let wait = domain::backoff(claimed.attempts, permanent);
                report(&claimed, &error, wait);
                store::retry(&mut work, claimed.notification_id, claimed.attempts, wait).await?;
            }
        }
        work.commit(Vec::new()).await?;
        Ok(performed)
    }
}

impl Deliveries {
    async fn deliver(&self, claimed: &Claimed) -> Result<(), Undelivered> {
        let channel = Channel::from_columns(&claimed.channel, claimed.email_address.as_deref());
        match channel.map_err(|error| DeliveryError::Build(error.into()))? {
            Channel::Log => output::write(claimed).await?,
            Channel::Email(address) => self.mailer.send(claimed, &address).await?,
        }
        Ok(())
    }
}

/// What it tells about the mail server. A line of the log channel counts as an answer: both channels share a breaker,
/// and an outage of the mail server should hold lines up as little as possible.
fn performed(delivery: &Result<(), Undelivered>) -> Performed {
    match delivery {
        Ok(()) | Err(Undelivered::Log(_)) => Performed::Answered,
        Err(Undelivered::Email(error)) => match error {
            DeliveryError::Unreachable(_) | DeliveryError::TimedOut => Performed::Unavailable,
            // 4xx: not now.
            DeliveryError::Refused { permanent: false, .. } => Performed::Unavailable,
            DeliveryError::Refused { permanent: true, .. } => Performed::Answered,
            DeliveryError::Build(_) => Performed::Unasked,
        },
    }
}

fn report(claimed: &Claimed, error: &Undelivered, wait: Duration) {
    let smtp_code = match error {
        Undelivered::Email(error) => error.code(),
        Undelivered::Log(_) => None,
    };
    warn!(
        notification_id = %claimed.notification_id,
        order_id = %claimed.order_id,
        attempt = claimed.attempts,
        smtp_code,
        retry_within_ms = wait.as_millis(),
        error = error as &dyn Error,
        "notification not delivered; trying again"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mail_server_can_be_unavailable() {
        let email = |error| performed(&Err(Undelivered::Email(error)));
        let refused = |code: &str, permanent| DeliveryError::Refused { code: code.to_owned(), permanent };
        assert_eq!(email(DeliveryError::Unreachable(String::new())), Performed::Unavailable);
        assert_eq!(email(DeliveryError::TimedOut), Performed::Unavailable);
        assert_eq!(email(refused("421", false)), Performed::Unavailable);
        assert_eq!(email(refused("550", true)), Performed::Answered);
        assert_eq!(email(DeliveryError::Build("no message".into())), Performed::Unasked);
        assert_eq!(performed(&Err(Undelivered::Log(output::Error::TimedOut))), Performed::Answered);
        assert_eq!(performed(&Ok(())), Performed::Answered);
    }
}

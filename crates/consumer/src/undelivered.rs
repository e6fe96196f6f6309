//! Dead letters of what a [dispatcher](crate::dispatch) has given up: the record took effect here, and what it asked for
//! outside PostgreSQL could not be done.
//!
//! The dispatcher parks the record with the outcome, in one transaction, and an operator finds it beside all others. A
//! replay gives it to the handler once more, which makes a new intent of it. Nothing waits behind such a letter: it has
//! had its turn among the records of its key, and keeps its place in their order.

use outbox::{Event, UnitOfWork};
use sqlx::Row as _;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    KafkaArgs, Kind, Message, Metrics, Subscription,
    dead_letter::{self, Letter, cut, fingerprint},
    error::Failure,
};

/// Parks what a dispatcher has given up, as the consumer that took it in.
#[derive(Clone, Debug)]
pub struct Undelivered {
    consumer: String,
    group: &'static str,
    metrics: Metrics,
    version: &'static str,
}

/// A record that was parked, to be told of once that is committed.
#[derive(Debug)]
#[must_use = "whoever looks for dead letters learns of it by its report"]
pub struct Parked {
    by: Undelivered,
    message: Message,
    id: Uuid,
    failure: Failure,
}

/// What was tried in vain.
#[derive(Clone, Debug)]
pub struct Attempts {
    /// How often.
    pub count: i32,
    /// When first.
    pub first_at: OffsetDateTime,
    /// Why the last one failed.
    pub error: String,
}

impl Undelivered {
    /// For the records of this subscription; `version` is the program's.
    pub fn new(
        subscription: &Subscription,
        kafka: &KafkaArgs,
        metrics: Metrics,
        version: &'static str,
    ) -> Self {
        let consumer = format!("{}{}", kafka.prefix, subscription.group);
        Self { consumer, group: subscription.group, metrics, version }
    }

    /// Parks a record that took effect earlier. Returns the copy for its dead-letter topic, to be committed with it, and
    /// what is to be reported afterwards.
    ///
    /// `record` is what the handler was given; its topic, partition, offset, key, headers and value suffice. A record that
    /// was parked before is the same letter again.
    pub async fn park(
        &self,
        work: &mut UnitOfWork,
        record: &Message,
        attempts: Attempts,
    ) -> Result<(Vec<Event>, Parked), sqlx::Error> {
        let mut message = record.clone();
        let in_inbox = message.identify().is_ok();
        let failure = Failure { kind: Kind::Undelivered, error: attempts.error };
        let again = sqlx::query(include_str!("sql/park_again.sql"))
            .bind(&self.consumer)
            .bind(&message.source)
            .bind(message.id.to_string())
            .bind(failure.kind.as_str())
            .bind(cut(&failure.error))
            .bind(fingerprint(&failure))
            .bind(attempts.count)
            .bind(attempts.first_at)
            .bind(self.version)
            .fetch_optional(&mut **work)
            .await?;
        let mut letter = Letter {
            attempts: attempts.count,
            first_failed_at: attempts.first_at,
            failure: Some(failure.clone()),
            version: Some(self.version),
            ..Letter::behind(&message, in_inbox)
        };
        match again {
            Some(row) => {
                (letter.id, letter.attempts) = (row.try_get("id")?, row.try_get("attempts")?);
                letter.replays = row.try_get("replays")?;
                letter.first_failed_at = row.try_get("first_failed_at")?;
                letter.last_failed_at = row.try_get("last_failed_at")?;
            }
            None => dead_letter::park(work, &self.consumer, std::slice::from_ref(&letter)).await?,
        }
        let (id, copy) = (letter.id, letter.copy(&self.consumer, self.group).into_iter().collect());
        Ok((copy, Parked { by: self.clone(), message, id, failure }))
    }
}

impl Parked {
    /// Says in the log and counts that it is a dead letter now.
    pub fn report(self) {
        let Self { by, message, id, failure } = self;
        let letter = Letter { id, failure: Some(failure), ..Letter::behind(&message, false) };
        letter.report(&by.consumer);
        by.metrics.parked(&message.topic, Some(Kind::Undelivered));
        by.metrics.letters_changed.notify_one();
    }
}

//! Why an outbox is not being published, and whether its session can go on.

use std::{future::Future, time::Duration};

use tokio::time::timeout;

use crate::{
    lease,
    pending::Refused,
    producer::{Blame, Refusal},
    reader::Row,
    session,
};

/// A little more than the session's `statement_timeout`: the server has vanished without a word.
const SILENCE: Duration = Duration::from_secs(35);

/// What ends a session, or only a page.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// None could be opened.
    #[error(transparent)]
    Session(#[from] session::Error),
    /// The lease was refused, or taken by another relay.
    #[error(transparent)]
    Lease(#[from] lease::Error),
    /// A statement failed.
    #[error("the session with PostgreSQL was lost")]
    Sql(#[from] sqlx::Error),
    /// A statement was never answered.
    #[error("PostgreSQL has not answered for {} s", SILENCE.as_secs())]
    Silence,
    /// The shutdown could not wait for Kafka.
    #[error("records were not acknowledged before the shutdown's deadline")]
    Deadline,
    /// The producer has failed for good.
    #[error("the producer cannot go on: {0}")]
    Producer(String),
    /// The address leads to another Kafka than the one that has what was published before.
    #[error(
        "this is the Kafka cluster {found}, and what was published so far is in {stored}: correct the address, or run \
         `outbox-relay rebase` to go on here"
    )]
    OtherKafka {
        /// `cluster.id`, as the cursor says.
        stored: String,
        /// As the broker says.
        found: String,
    },
    /// A row was not given to the producer; what was given before it may arrive. The page is tried again.
    #[error("event {} cannot be published: {}", id(.0), .0.1)]
    Blocked(Refused),
    /// A topic cannot be published to. It gets a lane, and the page is tried again without it.
    #[error("topic {0} cannot be published to: {1}")]
    BlockedTopic(String, Refusal),
    /// The producer or the broker has refused a record. The page is tried again.
    #[error("event {} cannot be published: {}", id(.0), .0.1)]
    Refused(Refused),
}

impl Stop {
    /// A row that is not given to the producer.
    pub fn blocked(row: &Row, refusal: Refusal) -> Self {
        if refusal.blame() == Blame::Topic {
            return Self::BlockedTopic(row.topic.clone(), refusal);
        }
        let headers = outbox::headers::Headers::decode(&row.headers).unwrap_or_default();
        let id = headers.text("ce_id").map_or_else(|| format!("of row {}", row.id), str::to_owned);
        Self::Blocked((Some(id), refusal))
    }

    /// Whether the session can go on: only a row is in the way, and the page is tried again.
    pub fn is_about_a_row(&self) -> bool {
        matches!(self, Self::Blocked(_) | Self::BlockedTopic(..) | Self::Refused(_))
    }

    /// Whether a session that was open is not any more: lost with the server, or because of another relay.
    pub fn has_lost_session(&self) -> bool {
        matches!(
            self,
            Self::Sql(_) | Self::Silence | Self::Lease(lease::Error::Sql(_) | lease::Error::Fenced)
        )
    }

    /// With every cause.
    pub fn words(&self) -> String {
        let mut words = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let cause_words = cause.to_string();
            // The client shows a database's error in its own Display too.
            if !words.ends_with(&cause_words) {
                words.push_str(&format!(": {cause_words}"));
            }
            source = cause.source();
        }
        words
    }
}

/// Gives a server that has vanished up.
pub async fn bounded<T>(future: impl Future<Output = T>) -> Result<T, Stop> {
    timeout(SILENCE, future).await.map_err(|_| Stop::Silence)
}

/// An answer that is only shown. Where PostgreSQL refuses it, it is unknown and everything else goes on; a session that
/// is lost is lost all the same.
pub fn diagnostic<T>(
    asked: Result<T, sqlx::Error>,
    question: &'static str,
) -> Result<Option<T>, sqlx::Error> {
    match asked {
        Ok(answer) => Ok(Some(answer)),
        Err(sqlx::Error::Database(error)) => {
            tracing::debug!(question, %error, "PostgreSQL does not say");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn id(refused: &Refused) -> &str {
    refused.0.as_deref().unwrap_or("without id")
}

//! What a service does with a record.

use std::future::Future;

use sqlx::PgConnection;
use tracing::Instrument as _;

use crate::{Error, Kind, Message, error::Failure};

/// The effects of a service's records.
///
/// Runs inside the batch's transaction, which may be rolled back and run again: no effect outside the connection, no
/// network client. Returned events are appended, in their order, as the transaction's last statement. Rows that records of
/// different keys share are locked in one order by all, or deadlocks make batches run again.
pub trait Handler: Send + Sync + 'static {
    /// Applies one record, whose type is one of the subscription's.
    fn handle(
        &self,
        connection: &mut PgConnection,
        message: &Message,
    ) -> impl Future<Output = Result<Vec<outbox::Event>, HandleError>> + Send;

    /// Applies the records of a batch, with what [`Handler::handle`] would do to one after the other.
    ///
    /// Override it where one statement can do the work of many; [`Message::span`] then says which record an event is
    /// caused by. An error takes the whole batch back, and its records are run again by `handle`, one by one, to find
    /// the one that is wrong.
    fn handle_all(
        &self,
        connection: &mut PgConnection,
        messages: &[&Message],
    ) -> impl Future<Output = Result<Vec<outbox::Event>, HandleError>> + Send {
        self.handle_each(connection, messages)
    }

    /// [`Handler::handle`] for one record after the other, each in its own span: where [`Handler::handle_all`] cannot do
    /// better.
    fn handle_each(
        &self,
        connection: &mut PgConnection,
        messages: &[&Message],
    ) -> impl Future<Output = Result<Vec<outbox::Event>, HandleError>> + Send {
        async move {
            let mut events = Vec::new();
            for message in messages {
                events.extend(self.handle(connection, message).instrument(message.span()).await?);
            }
            Ok(events)
        }
    }

    /// Told once the effects of these records are committed, also those of a replay: the place for metrics, as a record may
    /// be run more than once before. What is to be counted can be kept in [`Noted`](crate::Noted) until then.
    fn committed(&self, _messages: &[&Message]) {}
}

/// Why a record did not take effect.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// It never will: the record itself is wrong.
    #[error("{reason}")]
    Poison {
        /// What is wrong, naming the field or type.
        reason: String,
    },
    /// No record can: what this installation needs is missing.
    #[error("{reason}")]
    Config {
        /// What is missing.
        reason: String,
    },
    /// PostgreSQL refused, or is gone: its error code decides whether it is worth another try.
    #[error("handler's statement failed")]
    Sql(#[from] sqlx::Error),
}

impl HandleError {
    /// A record that can never be processed.
    pub fn poison(reason: impl Into<String>) -> Self {
        Self::Poison { reason: reason.into() }
    }

    /// Whose fault it is; an error that passes by itself is nobody's.
    pub(crate) fn blame(self) -> Result<Failure, Error> {
        match self {
            Self::Poison { reason } => Ok(Failure { kind: Kind::Poison, error: reason }),
            Self::Config { reason } => Ok(Failure { kind: Kind::Config, error: reason }),
            Self::Sql(error) => {
                let error = Error::from(error);
                match error.blame() {
                    Some(kind) => Ok(Failure { kind, error: error.words() }),
                    None => Err(error),
                }
            }
        }
    }
}

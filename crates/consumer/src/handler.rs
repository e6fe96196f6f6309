//! What a service does with a record.

use std::future::Future;

use sqlx::PgConnection;

use crate::Message;

/// The effects of a service's records.
///
/// Runs inside the batch's transaction, which may be rolled back and run again: no effect outside the connection, no
/// network client. Returned events are appended, in their order, as the transaction's last statement.
pub trait Handler: Send + Sync + 'static {
    /// Applies one record. An event type that is unknown here is no error: return no events.
    fn handle(
        &self,
        connection: &mut PgConnection,
        message: &Message,
    ) -> impl Future<Output = Result<Vec<outbox::Event>, HandleError>> + Send;
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
    /// PostgreSQL refused, or is gone: worth another try.
    #[error("handler's statement failed")]
    Sql(#[from] sqlx::Error),
}

impl HandleError {
    /// A record that can never be processed.
    pub fn poison(reason: impl Into<String>) -> Self {
        Self::Poison { reason: reason.into() }
    }
}

//! What a use case can answer other than success.

use uuid::Uuid;

use crate::domain::NotCancellable;

/// Why a use case did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such order.
    #[error("order {0} does not exist")]
    NotFound(Uuid),
    /// The customer has used this request id for another order.
    #[error("request id {0} was used with another body; send a new one for a new order")]
    RequestIdReused(Uuid),
    /// It is too late.
    #[error(transparent)]
    NotCancellable(#[from] NotCancellable),
    /// Nothing was appended.
    #[error(transparent)]
    Outbox(#[from] outbox::Error),
    /// PostgreSQL refused, or is gone.
    #[error("statement failed")]
    Sql(#[from] sqlx::Error),
}

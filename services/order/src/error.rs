//! What a use case can answer other than success.

use std::sync::Arc;

use uuid::Uuid;

use crate::domain::{Refused, Unavailable, Violation};

/// Why a use case did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such order.
    #[error("order {0} does not exist")]
    NotFound(Uuid),
    /// The customer has used this request id for another order.
    #[error("request id {0} was used with another body; send a new one for a new order")]
    RequestIdReused(Uuid),
    /// The catalogue does not allow it.
    #[error(transparent)]
    Unavailable(Unavailable),
    /// The items do not fit together.
    #[error("{} {}", .0.field, .0.description)]
    Invalid(Violation),
    /// The order's state does not allow it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Nothing was appended.
    #[error(transparent)]
    Outbox(#[from] outbox::Error),
    /// The transaction that was to do it, and others with it, has failed.
    #[error(transparent)]
    Together(Arc<Error>),
    /// Nobody knows what became of it: a fault of ours.
    #[error("the request was lost")]
    Lost,
    /// PostgreSQL refused, or is gone.
    #[error("statement failed")]
    Sql(#[from] sqlx::Error),
}

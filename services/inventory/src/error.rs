//! Why a call to inventory's API failed, as the caller is told.

use service::status::{self, Reason, Violations};
use tonic::Status;
use uuid::Uuid;

use crate::domain::{NotCounted, ProductId};

/// What a use case can answer with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No product has this id.
    #[error("product {0} does not exist")]
    NotFound(ProductId),
    /// The id is taken.
    #[error("product {0} exists already; change it with UpdateProduct")]
    Exists(ProductId),
    /// The request id has counted something else.
    #[error("request id {0} was used with another body; send a new one for another adjustment")]
    RequestIdReused(Uuid),
    /// The units cannot be counted in or out.
    #[error(transparent)]
    NotCounted(#[from] NotCounted),
    /// Nothing was appended.
    #[error(transparent)]
    Outbox(#[from] outbox::Error),
    /// PostgreSQL refused, or is gone.
    #[error("statement failed")]
    Sql(#[from] sqlx::Error),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::NotFound(_) => status::status(Reason::ProductNotFound, message),
            Error::Exists(_) => status::status(Reason::ProductExists, message),
            Error::RequestIdReused(_) => status::status(Reason::RequestIdReused, message),
            Error::NotCounted(NotCounted::Insufficient { .. }) => {
                status::status(Reason::InsufficientStock, message)
            }
            Error::NotCounted(NotCounted::TooMany) => {
                let mut violations = Violations::default();
                violations.add("delta", message);
                violations.into_result().err().unwrap_or_else(|| Self::internal("a violation was lost"))
            }
            Error::Outbox(error) => status::from_outbox(error),
            Error::Sql(error) => status::from_sql(error),
        }
    }
}

//! Why a call to billing's API failed, as the caller is told.

use service::status::{self, Reason};
use tonic::Status;
use uuid::Uuid;

/// What a use case can answer with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No payment has this id.
    #[error("payment {0} does not exist: it appears once its order's request has been taken")]
    NotFound(Uuid),
    /// PostgreSQL refused, or is gone.
    #[error("statement failed")]
    Sql(#[from] sqlx::Error),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound(_) => status::status(Reason::PaymentNotFound, error.to_string()),
            Error::Sql(error) => status::from_sql(error),
        }
    }
}

//! What a use case can fail with. A caller learns the closed reason and no more; the log has the cause.

use tonic::Status;

/// A use case that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL refused, or is gone.
    #[error("query failed")]
    Sql(#[from] sqlx::Error),
    /// The transaction was not committed, or its outcome is unknown.
    #[error("transaction failed")]
    Outbox(#[from] outbox::Error),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Sql(error) => service::status::from_sql(error),
            Error::Outbox(error) => service::status::from_outbox(error),
        }
    }
}

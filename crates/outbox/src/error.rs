//! What can go wrong on the write side.

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL refused, or is gone. After a failed commit the outcome is unknown: ask with the same request id.
    #[error("outbox transaction failed")]
    Sql(#[from] sqlx::Error),
    /// The migrations could not be applied.
    #[error("outbox migration failed")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// One event is over the limit; nothing of the transaction was committed.
    #[error(
        "event for topic {topic} has {size} bytes, the limit is {limit}: store the large part and send a reference"
    )]
    TooLarge {
        /// Logical topic of the event.
        topic: String,
        /// Key, headers and payload together, in bytes.
        size: usize,
        /// [`crate::MAX_EVENT_BYTES`].
        limit: usize,
    },
}

//! Why a consumer stopped.

/// A consumer's end other than by shutdown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A record can never be processed. Everything before it has taken effect; it and what follows wait in the topic.
    #[error("record {topic}[{partition}]@{offset} cannot be processed: {reason}")]
    Poison {
        /// Logical topic.
        topic: String,
        /// Partition of the record.
        partition: i32,
        /// Offset of the record.
        offset: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// The Kafka client cannot go on; a new process starts from the committed offsets.
    #[error("kafka client failed")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// The batch's transaction failed; it is safe to run it again.
    #[error("batch transaction failed")]
    Outbox(#[from] outbox::Error),
    /// PostgreSQL refused, or is gone; it is safe to run the batch again.
    #[error("batch transaction failed")]
    Sql(#[from] sqlx::Error),
    /// Another worker has taken a partition of the batch over. Nothing of the batch has happened here.
    #[error("partition was taken over by another worker")]
    Fenced,
}

impl Error {
    /// Whether PostgreSQL refused what a record says, and will refuse it again: an event over the limit, data exceptions (class 22), constraints
    /// (23) and limits of the program (54). <https://www.postgresql.org/docs/current/errcodes-appendix.html>
    pub(crate) fn is_about_data(&self) -> bool {
        let error = match self {
            Self::Sql(error) | Self::Outbox(outbox::Error::Sql(error)) => error,
            Self::Outbox(outbox::Error::TooLarge { .. }) => return true,
            _ => return false,
        };
        let code = error.as_database_error().and_then(|error| error.code());
        code.is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
    }
}

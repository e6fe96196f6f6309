//! Why a record took no effect, and why a consumer stopped.

/// A consumer's end other than by shutdown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Kafka client cannot go on; a new process starts from the committed offsets.
    #[error("kafka client failed")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// The batch's transaction failed; it is safe to run it again.
    #[error("batch transaction failed")]
    Outbox(#[from] outbox::Error),
    /// PostgreSQL refused, or is gone; it is safe to run the batch again.
    #[error("batch transaction failed")]
    Sql(#[from] sqlx::Error),
    /// PostgreSQL does not answer; it is safe to run the batch again.
    #[error("batch transaction did not end in time")]
    Timeout,
    /// Another worker has taken a partition of the batch over. Nothing of the batch has happened here.
    #[error("partition was taken over by another worker")]
    Fenced,
}

/// Whose fault it is that a record took no effect, which decides what happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The record's: it is run twice, then the subscription's policy decides.
    Poison,
    /// The handler's, which panicked. As poison.
    Bug,
    /// The installation's: a table or a right is missing. Its partition waits; no record is to blame.
    Config,
    /// The record's id is older than the inbox remembers, so that a repeat would not be noticed. As poison.
    TooOld,
    /// The record's id is from the future. As poison.
    Clock,
}

/// Why one record took no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub kind: Kind,
    pub error: String,
}

impl Kind {
    /// As in `inbox.dead_letter.kind` and in the header `dlq-error-kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::Bug => "bug",
            Self::Config => "config",
            Self::TooOld => "too-old",
            Self::Clock => "clock",
        }
    }
}

impl Error {
    /// Whether a record is to blame, or the installation, by the class of PostgreSQL's error code
    /// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>): data exceptions (22), constraints (23), limits of
    /// the program (54) and errors that a function raises (P0) come again with the record; undefined names and missing
    /// rights (42), unknown schemas and databases (3F, 3D), logins (28) and unsupported features (0A) with any. The rest,
    /// above all a lost connection, a deadlock and a server that is full or stops, passes.
    pub(crate) fn blame(&self) -> Option<Kind> {
        let error = match self {
            Self::Sql(error) | Self::Outbox(outbox::Error::Sql(error)) => error,
            Self::Outbox(outbox::Error::TooLarge { .. }) => return Some(Kind::Poison),
            _ => return None,
        };
        // What was read is not what the handler wanted: its statement is wrong, or the row is.
        if matches!(
            error,
            sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)
        ) {
            return Some(Kind::Poison);
        }
        let code = error.as_database_error().and_then(|error| error.code())?;
        match code.get(..2)? {
            "22" | "23" | "54" | "P0" => Some(Kind::Poison),
            "42" | "3F" | "3D" | "28" | "0A" => Some(Kind::Config),
            _ => None,
        }
    }

    /// With what is behind it.
    pub(crate) fn words(&self) -> String {
        let first: &dyn std::error::Error = self;
        let causes = std::iter::successors(first.source(), |cause| cause.source());
        causes.fold(self.to_string(), |words, cause| format!("{words}: {cause}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_nobodys_fault() {
        for error in [sqlx::Error::PoolTimedOut, sqlx::Error::PoolClosed, sqlx::Error::WorkerCrashed] {
            assert_eq!(Error::from(error).blame(), None);
        }
        assert_eq!(Error::from(sqlx::Error::RowNotFound).blame(), Some(Kind::Poison));
    }
}

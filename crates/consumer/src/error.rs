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
    /// The world's: the record took effect, and what it asked for outside PostgreSQL was given up.
    Undelivered,
}

/// Why one record took no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub kind: Kind,
    pub error: String,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Poison, Self::Bug, Self::Config, Self::TooOld, Self::Clock, Self::Undelivered];

    /// As in `inbox.dead_letter.kind` and in the header `dlq-error-kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::Bug => "bug",
            Self::Config => "config",
            Self::TooOld => "too-old",
            Self::Clock => "clock",
            Self::Undelivered => "undelivered",
        }
    }
}

impl Error {
    /// Whether a record is to blame, or the installation, or nobody: what passes by itself is worth another try.
    ///
    /// By the class of PostgreSQL's error code (<https://www.postgresql.org/docs/current/errcodes-appendix.html>). Nobody is
    /// to blame for lost connections (08), deadlocks (40), full servers (53), operators (57), the disk (58), locks that were
    /// not to be had (55P03, 55006) and a server that became a standby (25006). Undefined names and missing rights (42),
    /// unknown schemas and databases (3F, 3D), logins (28), unsupported features (0A), wrong states such as an outbox of
    /// another cluster (55) and internal errors (XX, F0) are the installation's. Anything else comes again with the record.
    pub(crate) fn blame(&self) -> Option<Kind> {
        let error = match self {
            Self::Sql(error) | Self::Outbox(outbox::Error::Sql(error)) => error,
            Self::Outbox(outbox::Error::TooLarge { .. }) => return Some(Kind::Poison),
            _ => return None,
        };
        use sqlx::Error::{
            ColumnDecode, ColumnIndexOutOfBounds, ColumnNotFound, Decode, Encode, RowNotFound, TypeNotFound,
        };
        match error {
            RowNotFound | ColumnDecode { .. } | Decode(_) | Encode(_) => return Some(Kind::Poison),
            ColumnNotFound(_) | ColumnIndexOutOfBounds { .. } | TypeNotFound { .. } => {
                return Some(Kind::Config);
            }
            _ => {}
        }
        let code = error.as_database_error().and_then(|error| error.code())?;
        blame_of(&code)
    }

    /// Whether PostgreSQL took too long, which a smaller batch may not.
    pub(crate) fn is_slow(&self) -> bool {
        let (Self::Sql(error) | Self::Outbox(outbox::Error::Sql(error))) = self else {
            return matches!(self, Self::Timeout);
        };
        // query_canceled: `statement_timeout`.
        error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "57014")
    }

    /// Its class, for `error.type`.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::Kafka(_) => "kafka",
            Self::Outbox(_) | Self::Sql(_) => "sql",
            Self::Timeout => "timeout",
            Self::Fenced => "fenced",
        }
    }

    /// With what is behind it.
    pub(crate) fn words(&self) -> String {
        let first: &dyn std::error::Error = self;
        let causes = std::iter::successors(first.source(), |cause| cause.source());
        causes.fold(self.to_string(), |words, cause| format!("{words}: {cause}"))
    }
}

fn blame_of(code: &str) -> Option<Kind> {
    match (code.get(..2)?, code) {
        ("08" | "40" | "53" | "57" | "58", _) | (_, "55P03" | "55006" | "25006") => None,
        // A statement after one that failed: the handler has ignored the error.
        (_, "25P02") => Some(Kind::Bug),
        ("42" | "3F" | "3D" | "28" | "0A" | "55" | "XX" | "F0", _) => Some(Kind::Config),
        _ => Some(Kind::Poison),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_errors_has_somebody_to_blame_or_nobody() {
        for code in ["08006", "40001", "40P01", "53100", "53300", "57P01", "57014", "58030", "55P03", "25006"]
        {
            assert_eq!(blame_of(code), None, "{code}");
        }
        for code in ["42P01", "42501", "3F000", "3D000", "28P01", "0A000", "55000", "XX000"] {
            assert_eq!(blame_of(code), Some(Kind::Config), "{code}");
        }
        for code in ["22012", "22P05", "23505", "23503", "54000", "P0001", "21000", "44000", "38000"] {
            assert_eq!(blame_of(code), Some(Kind::Poison), "{code}");
        }
        assert_eq!(blame_of("25P02"), Some(Kind::Bug));
    }

    #[test]
    fn a_lost_connection_is_nobodys_fault() {
        for error in [sqlx::Error::PoolTimedOut, sqlx::Error::PoolClosed, sqlx::Error::WorkerCrashed] {
            assert_eq!(Error::from(error).blame(), None);
        }
        assert_eq!(Error::from(sqlx::Error::RowNotFound).blame(), Some(Kind::Poison));
    }
}

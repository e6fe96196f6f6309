//! Errors as callers see them: AIP-193 with `google.rpc` details, from one closed list of reasons.

use std::{borrow::Borrow, collections::HashMap};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};
use tracing::error;

const DOMAIN: &str = "orderly";

/// Every reason that a caller can be given (`ErrorInfo.reason`); a page each in docs/errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A field is wrong; the details name each.
    InvalidField,
    /// The request id was used with another body.
    RequestIdReused,
    /// There is no such order.
    OrderNotFound,
    /// It is too late to cancel.
    NotCancellable,
    /// There is no such payment.
    PaymentNotFound,
    /// There is no such product.
    ProductNotFound,
    /// There is a product of this id already.
    ProductExists,
    /// The price that was sent is not the current one.
    PriceChanged,
    /// Fewer units are free than are to be counted out.
    InsufficientStock,
    /// The order does not wait for an operator, or not for this.
    NotResolvable,
    /// The database is gone; the same request can be sent again.
    DependencyUnavailable,
    /// A fault of ours.
    Internal,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::InvalidField,
        Self::RequestIdReused,
        Self::OrderNotFound,
        Self::NotCancellable,
        Self::PaymentNotFound,
        Self::ProductNotFound,
        Self::ProductExists,
        Self::PriceChanged,
        Self::InsufficientStock,
        Self::NotResolvable,
        Self::DependencyUnavailable,
        Self::Internal,
    ];

    /// As it stands in `ErrorInfo`.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidField => "INVALID_FIELD",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::OrderNotFound => "ORDER_NOT_FOUND",
            Self::NotCancellable => "NOT_CANCELLABLE",
            Self::PaymentNotFound => "PAYMENT_NOT_FOUND",
            Self::ProductNotFound => "PRODUCT_NOT_FOUND",
            Self::ProductExists => "PRODUCT_EXISTS",
            Self::PriceChanged => "PRICE_CHANGED",
            Self::InsufficientStock => "INSUFFICIENT_STOCK",
            Self::NotResolvable => "NOT_RESOLVABLE",
            Self::DependencyUnavailable => "DEPENDENCY_UNAVAILABLE",
            Self::Internal => "INTERNAL",
        }
    }

    /// Its gRPC code.
    pub fn code(self) -> Code {
        match self {
            Self::InvalidField => Code::InvalidArgument,
            Self::RequestIdReused | Self::ProductExists => Code::AlreadyExists,
            Self::OrderNotFound | Self::PaymentNotFound | Self::ProductNotFound => Code::NotFound,
            Self::NotCancellable | Self::PriceChanged | Self::InsufficientStock | Self::NotResolvable => {
                Code::FailedPrecondition
            }
            Self::DependencyUnavailable => Code::Unavailable,
            Self::Internal => Code::Internal,
        }
    }
}

/// A status with its `ErrorInfo`.
pub fn status(reason: Reason, message: impl Into<String>) -> Status {
    status_with(reason, message, HashMap::new())
}

/// A status with its `ErrorInfo`, and what else a program may want to know about it.
pub fn status_with(reason: Reason, message: impl Into<String>, metadata: HashMap<String, String>) -> Status {
    let details = ErrorDetails::with_error_info(reason.name(), DOMAIN, metadata);
    Status::with_error_details(reason.code(), message, details)
}

/// A failed statement: UNAVAILABLE where it can be sent again, INTERNAL otherwise. Logged here, told nobody.
pub fn from_sql(error: impl Borrow<sqlx::Error>) -> Status {
    let error = error.borrow();
    if is_gone(error) {
        error!(%error, "database is unavailable");
        return status(
            Reason::DependencyUnavailable,
            "the database is unavailable; send the same request again",
        );
    }
    error!(%error, "statement failed");
    status(Reason::Internal, "a fault of the service; its log has the cause")
}

/// Whether a statement has failed for a reason that passes by itself, and that others share.
pub fn is_gone(error: &sqlx::Error) -> bool {
    use sqlx::Error as Sql;
    match error {
        Sql::Io(_)
        | Sql::PoolTimedOut
        | Sql::PoolClosed
        | Sql::Tls(_)
        | Sql::Protocol(_)
        | Sql::WorkerCrashed => true,
        // 08: connection, 40: rolled back for others, 53: out of resources, 57: shutdown or cancelled.
        Sql::Database(refusal) => refusal
            .code()
            .is_some_and(|code| ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class))),
        _ => false,
    }
}

/// As [`from_sql`], for a failed unit of work.
pub fn from_outbox(error: impl Borrow<outbox::Error>) -> Status {
    match error.borrow() {
        outbox::Error::Sql(error) => from_sql(error),
        error => {
            error!(%error, "event not appended");
            status(Reason::Internal, "a fault of the service; its log has the cause")
        }
    }
}

/// The fields of a request that are wrong.
#[derive(Clone, Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// Names a field, by its path in the request, and what it must be.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(FieldViolation::new(field, description));
    }

    /// `INVALID_ARGUMENT` with every violation, or nothing.
    pub fn into_result(self) -> Result<(), Status> {
        let Some(first) = self.0.first() else { return Ok(()) };
        let message = format!("{} {}", first.field, first.description);
        let mut details = ErrorDetails::with_bad_request(self.0);
        details.set_error_info(Reason::InvalidField.name(), DOMAIN, HashMap::<String, String>::new());
        Err(Status::with_error_details(Code::InvalidArgument, message, details))
    }

    /// The UUID in a field; nil, and a violation, where there is none.
    pub fn uuid(&mut self, field: &str, value: &str) -> uuid::Uuid {
        uuid::Uuid::try_parse(value).unwrap_or_else(|_| {
            self.add(field, "must be a UUID");
            uuid::Uuid::nil()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_violation_is_named() {
        let mut violations = Violations::default();
        violations.add("a", "must be x");
        violations.add("b", "must be y");
        let status = violations.into_result().expect_err("refused");
        let details = status.get_error_details();
        let fields = &details.bad_request().expect("details").field_violations;
        assert_eq!(fields.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(details.error_info().expect("details").reason, "INVALID_FIELD");
        assert_eq!(status.message(), "a must be x");
    }

    #[test]
    fn a_gone_database_is_worth_another_try_and_its_text_stays_here() {
        let status = from_sql(sqlx::Error::PoolTimedOut);
        assert_eq!(status.code(), Code::Unavailable);
        let status = from_sql(sqlx::Error::Decode("secret column".into()));
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("secret"));
    }
}

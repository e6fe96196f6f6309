//! What the order service does with billing's answers.

use consumer::{HandleError, Handler, Message};
use proto::billing::v1::{PaymentFailed, PaymentFailure, PaymentRefunded, PaymentSucceeded};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    app,
    domain::{Command, Reason},
    error::Error,
};

/// Handles the records of `payment-results`.
#[derive(Clone, Copy, Debug)]
pub struct PaymentResults;

impl Handler for PaymentResults {
    async fn handle(
        &self,
        connection: &mut PgConnection,
        message: &Message,
    ) -> Result<Vec<outbox::Event>, HandleError> {
        let (order_id, command) = if message.is::<PaymentSucceeded>() {
            (message.decode::<PaymentSucceeded>()?.order_id, Command::PaymentSucceeded)
        } else if message.is::<PaymentFailed>() {
            let failed: PaymentFailed = message.decode()?;
            let reason = reason(failed.failure())?;
            (failed.order_id, Command::PaymentFailed(reason))
        } else if message.is::<PaymentRefunded>() {
            (message.decode::<PaymentRefunded>()?.order_id, Command::PaymentRefunded)
        } else {
            return Ok(Vec::new());
        };
        let order_id =
            Uuid::parse_str(&order_id).map_err(|_| HandleError::poison("field order_id is no UUID"))?;
        match app::apply(connection, order_id, command).await {
            Ok((_, told)) => Ok(told),
            Err(Error::Sql(error)) => Err(error.into()),
            // An answer about an order that this database does not know.
            Err(error) => Err(HandleError::poison(error.to_string())),
        }
    }
}

fn reason(failure: PaymentFailure) -> Result<Reason, HandleError> {
    match failure {
        PaymentFailure::Declined => Ok(Reason::PaymentDeclined),
        PaymentFailure::InsufficientFunds => Ok(Reason::InsufficientFunds),
        PaymentFailure::Expired => Ok(Reason::PaymentExpired),
        PaymentFailure::Unspecified => Err(HandleError::poison("field failure is unknown or unspecified")),
    }
}

//! What the order service does with billing's answers.

use consumer::{EventType, HandleError, Handler, Limits, Message, Subscription, Topic};
use proto::billing::v1::{PaymentFailed, PaymentFailure, PaymentRefunded, PaymentSucceeded};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    app,
    domain::{Command, Reason},
    error::Error,
};

/// What the order service reads.
pub const SUBSCRIPTION: Subscription = Subscription {
    group: "order",
    topics: &[Topic::new(
        "payment-results",
        &[
            EventType::of::<PaymentSucceeded>(),
            EventType::of::<PaymentFailed>(),
            EventType::of::<PaymentRefunded>(),
        ],
    )],
    limits: Limits::DEFAULT,
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
        let (order_id, payment_id, command) = if message.is::<PaymentSucceeded>() {
            let PaymentSucceeded { payment_id, order_id } = message.decode()?;
            (order_id, payment_id, Command::PaymentSucceeded)
        } else if message.is::<PaymentFailed>() {
            let failed: PaymentFailed = message.decode()?;
            let reason = reason(failed.failure())?;
            (failed.order_id, failed.payment_id, Command::PaymentFailed(reason))
        } else if message.is::<PaymentRefunded>() {
            let PaymentRefunded { payment_id, order_id, .. } = message.decode()?;
            (order_id, payment_id, Command::PaymentRefunded)
        } else {
            return Ok(Vec::new());
        };
        let (order_id, payment_id) = (uuid("order_id", &order_id)?, uuid("payment_id", &payment_id)?);
        match app::apply(connection, order_id, command).await {
            // Refusing it takes back what it has just done: the whole transaction is rolled back.
            Ok((stored, _)) if stored.order.payment_id != payment_id => Err(HandleError::poison(format!(
                "field payment_id is {payment_id}, which is not the payment of order {order_id}"
            ))),
            Ok((_, told)) => Ok(told),
            Err(Error::Sql(error)) => Err(error.into()),
            // An answer about an order that this database does not know.
            Err(error) => Err(HandleError::poison(error.to_string())),
        }
    }
}

fn uuid(field: &str, value: &str) -> Result<Uuid, HandleError> {
    Uuid::parse_str(value).map_err(|_| HandleError::poison(format!("field {field} is no UUID")))
}

fn reason(failure: PaymentFailure) -> Result<Reason, HandleError> {
    match failure {
        PaymentFailure::Declined => Ok(Reason::PaymentDeclined),
        PaymentFailure::InsufficientFunds => Ok(Reason::InsufficientFunds),
        PaymentFailure::Expired => Ok(Reason::PaymentExpired),
        PaymentFailure::Unspecified => Err(HandleError::poison("field failure is unknown or unspecified")),
    }
}

//! Calls to the provider, from the rows that owe one. A call is made outside any transaction, and its outcome is written
//! in one of its own; an outcome that is unknown is asked for again with the same key, without limit.

use std::error::Error as StdError;

use consumer::dispatch::Dispatch;
use tracing::Instrument as _;

use crate::{
    app::Payments,
    domain::{Command, Failure, Status, backoff_ms},
    provider::{Charged, Unknown},
    store::{self, Intent},
};

/// How long a claim outlives its worker, in seconds; longer than a call and its transaction can take.
const LEASE_SECONDS: f64 = 30.0;

impl Dispatch for Payments {
    type Intent = Intent;

    const NAME: &'static str = "provider";

    async fn claim(&self, limit: i64) -> Result<Vec<Intent>, sqlx::Error> {
        store::claim(&self.pool, limit, LEASE_SECONDS).await
    }

    async fn perform(&self, intent: Intent) -> Result<(), outbox::Error> {
        let span =
            tracing::info_span!("payment", payment_id = %intent.payment_id, order_id = %intent.order_id);
        telemetry::propagation::set_parent(
            &span,
            intent.traceparent.as_deref(),
            intent.tracestate.as_deref(),
        );
        self.perform_once(intent).instrument(span).await
    }
}

impl Payments {
    async fn perform_once(&self, intent: Intent) -> Result<(), outbox::Error> {
        match self.call(&intent).await {
            Ok(command) => self.settle(intent.payment_id, &command).await,
            Err(error) => {
                let backoff_ms = backoff_ms(intent.attempts);
                tracing::warn!(
                    status = intent.status.as_str(),
                    attempts = intent.attempts,
                    error = &error as &dyn StdError,
                    backoff_ms,
                    "outcome unknown, asking again"
                );
                Ok(store::defer(&self.pool, &intent, backoff_ms).await?)
            }
        }
    }

    async fn call(&self, intent: &Intent) -> Result<Command, Unknown> {
        if intent.status == Status::Refunding {
            return self.provider.refund(intent).await.map(|()| Command::Refunded);
        }
        // The very first call may still be left out; after it, only the provider knows.
        if intent.expired && intent.attempts == 1 {
            return Ok(Command::Refused(Failure::Expired));
        }
        Ok(match self.provider.charge(intent).await? {
            Charged::Succeeded { reference } => Command::Charged { reference },
            Charged::Refused(failure) => Command::Refused(failure),
        })
    }
}

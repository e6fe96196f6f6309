//! Calls to the provider, from the rows that owe one. A call is made outside any transaction, and its outcome is written
//! in one of its own; an outcome that is unknown is asked for again with the same key, without limit.

use std::error::Error as StdError;

use consumer::dispatch::{Dispatch, Performed};
use reqwest::StatusCode;
use telemetry::{SpanContext, TraceId};
use tracing::{Instrument as _, Span, field::Empty};
use uuid::Uuid;

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

    fn id(intent: &Intent) -> Uuid {
        intent.payment_id
    }

    async fn claim(&self, limit: i64) -> Result<Vec<Intent>, sqlx::Error> {
        store::claim(&self.pool, limit, LEASE_SECONDS).await
    }

    fn trace(intent: &Intent) -> Option<TraceId> {
        requested(intent).filter(SpanContext::is_sampled).map(|requested| requested.trace_id())
    }

    async fn perform(&self, intent: Intent) -> Result<Performed, outbox::Error> {
        let span = span(&intent);
        self.perform_once(intent).instrument(span).await
    }
}

/// The span of one attempt, child of the request: another attempt's is a sibling.
fn span(intent: &Intent) -> Span {
    let span = tracing::info_span!(
        "payment",
        otel.name = if intent.status == Status::Refunding { "refund payment" } else { "charge payment" },
        otel.status_code = Empty,
        payment_id = %intent.payment_id,
        order_id = %intent.order_id,
        attempt = intent.attempts,
    );
    telemetry::span::set_parent(&span, requested(intent).as_ref());
    span
}

/// Where the record was processed that requested the payment.
fn requested(intent: &Intent) -> Option<SpanContext> {
    telemetry::propagation::read(intent.traceparent.as_deref(), intent.tracestate.as_deref())
}

impl Payments {
    async fn perform_once(&self, intent: Intent) -> Result<Performed, outbox::Error> {
        // The very first call may still be left out; after it, only the provider knows.
        if intent.status == Status::Pending && intent.expired && intent.attempts == 1 {
            self.settle(intent.payment_id, &Command::Refused(Failure::Expired)).await?;
            return Ok(Performed::Unasked);
        }
        match self.call(&intent).await {
            Ok(command) => {
                self.settle(intent.payment_id, &command).await?;
                Ok(Performed::Answered)
            }
            Err(error) => {
                Span::current().record("otel.status_code", "ERROR");
                let backoff_ms = backoff_ms(intent.attempts);
                tracing::warn!(
                    status = intent.status.as_str(),
                    attempts = intent.attempts,
                    error = &error as &dyn StdError,
                    backoff_ms,
                    "outcome unknown, asking again"
                );
                store::defer(&self.pool, &intent, backoff_ms).await?;
                Ok(performed(&error))
            }
        }
    }

    async fn call(&self, intent: &Intent) -> Result<Command, Unknown> {
        if intent.status == Status::Refunding {
            return self.provider.refund(intent).await.map(|()| Command::Refunded);
        }
        Ok(match self.provider.charge(intent).await? {
            Charged::Succeeded { reference } => Command::Charged { reference },
            Charged::Refused(failure) => Command::Refused(failure),
        })
    }
}

/// A provider that can say what is wrong with one call is well.
fn performed(error: &Unknown) -> Performed {
    match error {
        Unknown::Lost(_) => Performed::Unavailable,
        Unknown::Status { status, .. } | Unknown::Body { status }
            if status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS =>
        {
            Performed::Unavailable
        }
        Unknown::Status { .. } | Unknown::Body { .. } | Unknown::Amount { .. } => Performed::Answered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_unwell_when_it_says_so_of_itself() {
        let status = |status: u16| {
            let status = StatusCode::from_u16(status).expect("a status");
            [
                performed(&Unknown::Status { status, code: String::new() }),
                performed(&Unknown::Body { status }),
            ]
        };
        for unwell in [429, 500, 502, 503, 504] {
            assert_eq!(status(unwell), [Performed::Unavailable; 2], "{unwell}");
        }
        for well in [200, 201, 302, 400, 401, 402, 404, 409] {
            assert_eq!(status(well), [Performed::Answered; 2], "{well}");
        }
        let amount = Unknown::Amount { minor: 1, currency: "EUR".to_owned() };
        assert_eq!(performed(&amount), Performed::Answered);
    }
}

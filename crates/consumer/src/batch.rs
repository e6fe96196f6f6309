//! One batch, one transaction: fence, inbox, effects, outbox.

use outbox::UnitOfWork;
use sqlx::PgPool;
use tracing::{Instrument, info_span};

use crate::{Error, HandleError, Handler, Message, Metrics, fence::Fence, inbox};

/// What stopped a batch.
pub(crate) enum Failure {
    /// The record at this index is poison; nothing of the batch has happened.
    Poison { index: usize, reason: String },
    /// The transaction was rolled back, or its outcome is unknown: the inbox makes a second run safe.
    Error(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Applies checked records in their order and commits them with everything they cause.
pub(crate) async fn apply<H: Handler>(
    pool: &PgPool,
    consumer: &str,
    fence: &Fence,
    handler: &H,
    messages: &[Message],
    metrics: &Metrics,
) -> Result<(), Failure> {
    let mut work = UnitOfWork::begin(pool).await?;
    fence.pass(&mut work).await?;
    let mut new = inbox::enter(&mut work, consumer, messages).await?;
    let mut events = Vec::new();
    let mut effects = Vec::with_capacity(new.len());
    for (index, message) in messages.iter().enumerate() {
        // Removing it makes a second occurrence within the batch a repeat.
        if !new.remove(&(message.source.clone(), message.id.to_string())) {
            metrics.repeated(&message.topic);
            continue;
        }
        let span = info_span!(
            "process",
            otel.name = %format_args!("process {}", message.topic),
            otel.kind = "consumer",
            messaging.system = "kafka",
            messaging.destination.name = message.topic,
            messaging.destination.partition.id = message.partition,
            messaging.kafka.offset = message.offset,
            messaging.message.id = %message.id,
        );
        let context = (message.headers.text("traceparent"), message.headers.text("tracestate"));
        telemetry::propagation::set_parent(&span, context.0, context.1);
        match handler.handle(&mut work, message).instrument(span).await {
            Ok(caused) => events.extend(caused),
            Err(HandleError::Poison { reason }) => return Err(Failure::Poison { index, reason }),
            Err(HandleError::Sql(error)) => return Err(error.into()),
        }
        effects.push(&message.topic);
    }
    work.commit(events).await?;
    for topic in effects {
        metrics.took_effect(topic);
    }
    Ok(())
}

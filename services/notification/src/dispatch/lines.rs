//! The dispatcher of the log channel. A line costs next to nothing beside its transaction: many share one.

use std::{error::Error as _, time::SystemTime};

use consumer::dispatch::{Dispatch, Performed};
use outbox::UnitOfWork;
use sqlx::PgPool;
use telemetry::{KeyValue, SpanContext, SpanKind, TraceId, span::Finished};
use tracing::{Instrument as _, Span, field::Empty, info_span, warn};
use uuid::Uuid;

use super::{LEASE, output, sampled};
use crate::{
    domain::{self, Channel},
    metrics::{Metrics, Outcome},
    store::{self, Claimed, Tried},
};

/// How many lines share a transaction at most.
const BATCH: i64 = 500;
/// How many links the span of such a transaction has at most: as many as the SDK keeps by default.
const MOST_LINKS: usize = 128;

/// Writes the lines of the log channel. It never gives one up: nobody but this installation can refuse it.
pub struct Lines {
    /// Where the intents are.
    pub pool: PgPool,
    /// What is counted.
    pub metrics: Metrics,
}

impl Lines {
    /// Batches at a time: one is written while another's outcome is.
    pub const CONCURRENCY: usize = 2;
}

impl Dispatch for Lines {
    type Intent = Vec<Claimed>;
    const NAME: &'static str = "log";

    fn id(batch: &Vec<Claimed>) -> Uuid {
        batch.first().map(|claimed| claimed.notification_id).unwrap_or_default()
    }

    /// One batch, or none.
    async fn claim(&self, _: i64) -> Result<Vec<Vec<Claimed>>, sqlx::Error> {
        let batch = store::claim(&mut *self.pool.acquire().await?, Channel::LOG, BATCH, LEASE).await?;
        Ok(if batch.is_empty() { Vec::new() } else { vec![batch] })
    }

    fn trace(batch: &Vec<Claimed>) -> Option<TraceId> {
        batch.iter().find_map(sampled).map(|requested| requested.trace_id())
    }

    /// One attempt. When its outcome cannot be written, the claims run out and the lines are written again.
    async fn perform(&self, batch: Vec<Claimed>) -> Result<Performed, outbox::Error> {
        match batch.as_slice() {
            [line] => self.write(&batch).instrument(span(line)).await?,
            _ => self.write_together(&batch).await?,
        };
        // Standard output has no outages that calls could make worse.
        Ok(Performed::Answered)
    }
}

impl Lines {
    /// As [`Lines::write`], in a span that all of them share; each has its own besides.
    async fn write_together(&self, batch: &[Claimed]) -> Result<usize, outbox::Error> {
        let requested: Vec<SpanContext> = batch.iter().filter_map(sampled).collect();
        if requested.is_empty() {
            return self.write(batch).await;
        }
        let (shared, start) = (shared_span(&requested), SystemTime::now());
        let done = self.write(batch).instrument(shared.clone()).await;
        let taken = done.as_ref().map_or(0, |taken| *taken);
        let (end, shared) = (SystemTime::now(), telemetry::span::context(&shared));
        for (place, line) in batch.iter().enumerate() {
            record(line, &shared, start, end, place < taken);
        }
        done
    }

    /// Writes lines and what has become of them. Says how many of them, the first ones, were taken.
    async fn write(&self, batch: &[Claimed]) -> Result<usize, outbox::Error> {
        let (count, written) = output::write(batch).await;
        let (taken, left) = batch.split_at(count);
        let mut work = UnitOfWork::begin(&self.pool).await?;
        let taken: Vec<Uuid> = taken.iter().map(|claimed| claimed.notification_id).collect();
        let delivered = store::delivered(&mut work, &taken).await?;
        let mut retried = 0;
        if let Err(error) = written {
            let cause = error.source().map(ToString::to_string);
            Span::current().record("otel.status_code", "ERROR");
            warn!(lines = left.len(), %error, cause, "notifications not written; trying again");
            let tried = |claimed: &Claimed| Tried {
                notification_id: claimed.notification_id,
                attempt: claimed.attempts,
                wait: domain::backoff(claimed.attempts, false),
            };
            retried = store::retry(&mut work, &left.iter().map(tried).collect::<Vec<_>>()).await?;
        }
        work.commit(Vec::new()).await?;
        self.metrics.count(Channel::LOG, Outcome::Delivered, delivered);
        self.metrics.count(Channel::LOG, Outcome::Retried, retried);
        Ok(count)
    }
}

/// The span of a line that is written alone.
fn span(line: &Claimed) -> Span {
    let span = info_span!(
        "deliver log",
        otel.status_code = Empty,
        order_id = %line.order_id,
        notification_id = %line.notification_id,
        attempt = line.attempts,
    );
    telemetry::span::set_parent(&span, line.requested_in().as_ref());
    span
}

/// Where lines are written together, and their transaction runs: in a trace of its own, linked with each request.
fn shared_span(requested: &[SpanContext]) -> Span {
    let span =
        info_span!(parent: None, "deliver batch", otel.status_code = Empty, lines = requested.len() as i64);
    telemetry::span::set_parent(&span, None);
    requested.iter().take(MOST_LINKS).for_each(|requested| telemetry::span::link(&span, requested));
    span
}

/// The span of a line that was written with others, where its request is recorded.
fn record(line: &Claimed, shared: &SpanContext, start: SystemTime, end: SystemTime, is_taken: bool) {
    let Some(parent) = sampled(line) else { return };
    Finished {
        name: "deliver log".into(),
        kind: SpanKind::Internal,
        parent: &parent,
        links: std::slice::from_ref(shared),
        start,
        end,
        attributes: vec![
            KeyValue::new("order_id", line.order_id.to_string()),
            KeyValue::new("notification_id", line.notification_id.to_string()),
            KeyValue::new("attempt", i64::from(line.attempts)),
        ],
        error: (!is_taken).then(|| "not written".to_owned()),
    }
    .record();
}

//! Parks what could not be processed: in `inbox.dead_letter`, which is the truth, with a copy for `<topic>.<group>.dlq`.

use std::time::SystemTime;

use outbox::{Event, Headers, MAX_EVENT_BYTES};
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use telemetry::propagation;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tracing::warn;
use uuid::Uuid;

use crate::{Message, error::Failure};

/// Of an error's text; the rest is cut off.
const MAX_ERROR_BYTES: usize = 2_048;

/// A record on its way to `inbox.dead_letter`.
pub(crate) struct Letter<'m> {
    pub id: Uuid,
    pub message: &'m Message,
    /// Whether the inbox knows it, by which a repeat is noticed; where not, it is noticed by its place.
    pub in_inbox: bool,
    /// Why it failed; none where it only waits behind one that did.
    pub failure: Option<Failure>,
    pub version: Option<&'static str>,
    pub attempts: i32,
    pub replays: i32,
    pub first_failed_at: OffsetDateTime,
    pub last_failed_at: OffsetDateTime,
}

impl<'m> Letter<'m> {
    /// A record that waits behind one that failed.
    pub fn behind(message: &'m Message, in_inbox: bool) -> Self {
        let now = OffsetDateTime::from(SystemTime::now());
        Self {
            id: Uuid::now_v7(),
            message,
            in_inbox,
            failure: None,
            version: None,
            attempts: 0,
            replays: 0,
            first_failed_at: now,
            last_failed_at: now,
        }
    }

    fn state(&self) -> &'static str {
        if self.failure.is_some() { "parked" } else { "held" }
    }

    /// Says in the log what has failed.
    pub fn report(&self, consumer: &str) {
        let Some(Failure { kind, error }) = &self.failure else { return };
        let Message { topic, partition, offset, .. } = self.message;
        let (id, kind, place) = (self.id, kind.as_str(), format!("{topic}[{partition}]@{offset}"));
        warn!(consumer, place, %id, kind, error, "a record became a dead letter");
    }

    /// The record for `<topic>.<group>.dlq`, of what failed: its key, value and headers as they are, and what happened in
    /// headers behind them (`__dlq.errors.*` as of KIP-1191); among it the trace of a later failure than the first. Without the value where the two together are too large.
    pub fn copy(&self, consumer: &str, group: &str) -> Option<Event> {
        let failure = self.failure.as_ref()?;
        let Message { topic, partition, offset, key, payload, .. } = self.message;
        let mut headers = self.message.headers.clone();
        let text = |time: OffsetDateTime| time.format(&Rfc3339).unwrap_or_default();
        for (name, value) in [
            ("__dlq.errors.topic", topic.clone()),
            ("__dlq.errors.partition", partition.to_string()),
            ("__dlq.errors.offset", offset.to_string()),
            ("__dlq.errors.group", consumer.to_owned()),
            ("__dlq.errors.delivery.count", self.attempts.to_string()),
            ("__dlq.errors.message", cut(&failure.error)),
            ("dlq-id", self.id.to_string()),
            ("dlq-error-kind", failure.kind.as_str().to_owned()),
            ("dlq-attempts", self.attempts.to_string()),
            ("dlq-first-failed-at", text(self.first_failed_at)),
            ("dlq-last-failed-at", text(self.last_failed_at)),
            ("dlq-service", group.to_owned()),
            ("dlq-version", self.version.unwrap_or_default().to_owned()),
            ("dlq-trace-id", trace_id(&self.message.headers).unwrap_or_default().to_owned()),
            ("dlq-replay-count", self.replays.to_string()),
        ] {
            headers.push_text(name, value);
        }
        if self.replays > 0 {
            // What happens to it now is no part of the trace that it was created in.
            for (name, value) in propagation::write(&propagation::current()) {
                headers.push_text(name, value);
            }
        }
        let mut event = Event {
            id: self.id,
            topic: format!("{topic}.{group}.dlq").into(),
            key: key.clone(),
            aggregate_id: None,
            sequence: None,
            headers,
            payload: payload.clone(),
            partition: None,
        };
        if event.size() > MAX_EVENT_BYTES {
            event.payload = None;
            event.headers.push_text("dlq-payload", "omitted: too large; it is in inbox.dead_letter");
        }
        // Whose headers alone are too large is only in the table.
        (event.size() <= MAX_EVENT_BYTES).then_some(event)
    }
}

/// Inserts letters in their order, and says so in the audit.
pub(crate) async fn park(
    connection: &mut PgConnection,
    consumer: &str,
    letters: &[Letter<'_>],
) -> Result<(), sqlx::Error> {
    fn column<'l, T>(letters: &'l [Letter<'l>], value: impl Fn(&'l Letter<'l>) -> T) -> Vec<T> {
        letters.iter().map(value).collect()
    }
    let identity = |letter: &Letter<'_>| !letter.message.id.is_nil();
    let failure = |letter: &Letter<'_>| letter.failure.is_some();
    sqlx::query(include_str!("sql/park.sql"))
        .bind(consumer)
        .bind(column(letters, |letter| letter.id))
        .bind(column(letters, |letter| letter.message.topic.as_str()))
        .bind(column(letters, |letter| letter.message.partition))
        .bind(column(letters, |letter| letter.message.offset))
        .bind(column(letters, |letter| letter.message.key.as_deref()))
        .bind(column(letters, |letter| identity(letter).then_some(letter.message.source.as_str())))
        .bind(column(letters, |letter| letter.in_inbox.then(|| letter.message.id.to_string())))
        .bind(column(letters, |letter| identity(letter).then_some(letter.message.event_type.as_str())))
        .bind(column(letters, |letter| letter.message.headers.encode()))
        .bind(column(letters, |letter| letter.message.payload.as_deref()))
        .bind(column(letters, |letter| letter.message.timestamp.map(|millis| millis as f64 / 1_000.0)))
        .bind(column(letters, Letter::state))
        .bind(column(letters, |letter| letter.failure.as_ref().map(|failure| failure.kind.as_str())))
        .bind(column(letters, |letter| letter.failure.as_ref().map(|failure| cut(&failure.error))))
        .bind(column(letters, |letter| letter.failure.as_ref().map(fingerprint)))
        .bind(column(letters, |letter| letter.attempts))
        .bind(column(letters, |letter| failure(letter).then_some(letter.first_failed_at)))
        .bind(column(letters, |letter| letter.version))
        .bind(column(letters, |letter| trace_id(&letter.message.headers)))
        .bind(column(letters, |letter| failure(letter).then_some(letter.last_failed_at)))
        .execute(connection)
        .await?;
    Ok(())
}

/// The trace in a W3C `traceparent`.
fn trace_id(headers: &Headers) -> Option<&str> {
    let id = headers.text("traceparent")?.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// Without zero bytes, which PostgreSQL does not take, and not longer than is useful.
pub(crate) fn cut(error: &str) -> String {
    let end = error.floor_char_boundary(MAX_ERROR_BYTES);
    error[..end].replace('\0', "\u{fffd}")
}

/// The same for errors that differ in numbers and ids only: words with a digit count for nothing.
pub(crate) fn fingerprint(failure: &Failure) -> String {
    let mut hash = Sha256::new();
    hash.update(failure.kind.as_str());
    let is_word = |character: char| character.is_alphanumeric() || character == '_' || character == '-';
    for word in failure.error.split(|character| !is_word(character)).filter(|word| !word.is_empty()) {
        hash.update(" ");
        hash.update(if word.contains(|character: char| character.is_ascii_digit()) { "#" } else { word });
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn errors_that_differ_in_ids_only_are_one() {
        let of = |kind, error: &str| fingerprint(&Failure { kind, error: error.to_owned() });
        let unknown = of(Kind::Poison, "order 0199aa00-0000-7000-8000-000000000000 is unknown");
        assert_eq!(unknown, of(Kind::Poison, "order 0199aa00-0000-7000-8000-000000000001 is unknown"));
        assert_ne!(unknown, of(Kind::Bug, "order 0199aa00-0000-7000-8000-000000000000 is unknown"));
        assert_ne!(unknown, of(Kind::Poison, "payment 0199aa00-0000-7000-8000-000000000000 is unknown"));
    }

    #[test]
    fn an_error_fits_the_table() {
        assert_eq!(cut("a\0b"), "a\u{fffd}b");
        assert_eq!(cut(&"é".repeat(MAX_ERROR_BYTES)).len(), MAX_ERROR_BYTES);
    }
}

//! The spans of an event whose creation is sampled: `wait outbox` until it is handed to the producer, `send <topic>` until
//! Kafka has answered. Both are children of its creation, whose context the record carries unchanged.
//!
//! What is sent again, after a refusal or a crash, is told again. Of an event that is not sampled only one digit is read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outbox::Headers;
use telemetry::{KeyValue, SpanContext, SpanKind, propagation, span::Finished};

use crate::{producer::Refusal, reader::Row};

/// The longest key that a span shows, in bytes.
const KEY_BYTES: usize = 128;
/// Where `traceparent` has the digit whose lowest bit says that it is sampled, in every version so far.
const FLAGS: usize = 54;

/// A record of a sampled event on its way to Kafka.
#[derive(Debug)]
pub struct Sending {
    created: SpanContext,
    /// When the event was appended; nothing of a copy, which has not waited.
    appended: Option<SystemTime>,
    handed: SystemTime,
    send: String,
    attributes: Vec<KeyValue>,
}

/// The creation context of an event, where it is sampled.
pub fn created(headers: &Headers) -> Option<SpanContext> {
    let traceparent = headers.text("traceparent")?;
    let digit = char::from(*traceparent.as_bytes().get(FLAGS)?).to_digit(16)?;
    if digit & 1 == 0 {
        return None;
    }
    propagation::read(Some(traceparent), headers.text("tracestate")).filter(SpanContext::is_sampled)
}

/// Records that an event was refused before Kafka was asked.
pub fn refused(row: &Row, refusal: &Refusal) {
    // Headers that cannot be read name no trace.
    let Ok(headers) = Headers::decode(&row.headers) else { return };
    if let Some(created) = created(&headers) {
        Sending::now(created, row, &headers, row.partition).refused(refusal);
    }
}

impl Sending {
    /// Of a row that is handed to the producer now.
    pub fn now(created: SpanContext, row: &Row, headers: &Headers, partition: Option<i32>) -> Self {
        let mut attributes = vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.destination.name", row.topic.clone()),
        ];
        let mut add = |name: &'static str, value: Option<String>| {
            attributes.extend(value.map(|value| KeyValue::new(name, value)));
        };
        add("messaging.message.id", headers.text("ce_id").map(str::to_owned));
        let key = row.key.as_deref().filter(|key| key.len() <= KEY_BYTES);
        let key = key.and_then(|key| std::str::from_utf8(key).ok());
        add("messaging.kafka.message.key", key.map(str::to_owned));
        add("messaging.destination.partition.id", partition.map(|partition| partition.to_string()));
        if row.payload.is_none() {
            attributes.push(KeyValue::new("messaging.kafka.message.tombstone", true));
        }
        let appended = Duration::try_from_secs_f64(row.created_at).ok().map(|since| UNIX_EPOCH + since);
        Self { created, appended, handed: SystemTime::now(), send: format!("send {}", row.topic), attributes }
    }

    /// The same of a copy of the event, which has not waited in the outbox.
    pub fn of_copy(self) -> Self {
        Self { appended: None, ..self }
    }

    /// Kafka has acknowledged it.
    pub fn acknowledged(&self, offset: i64) {
        // It is unknown where Kafka had the record already.
        let offset = (offset >= 0).then(|| KeyValue::new("messaging.kafka.offset", offset));
        self.record(offset, None);
    }

    /// It was refused, or given up on its way.
    pub fn refused(&self, refusal: &Refusal) {
        self.record(Some(KeyValue::new("error.type", refusal.kind())), Some(refusal.to_string()));
    }

    fn record(&self, more: Option<KeyValue>, error: Option<String>) {
        if let Some(appended) = self.appended {
            Finished {
                name: "wait outbox".into(),
                kind: SpanKind::Internal,
                parent: &self.created,
                links: &[],
                start: appended,
                end: self.handed,
                attributes: self.attributes.clone(),
                error: None,
            }
            .record();
        }
        let operation = ["messaging.operation.name", "messaging.operation.type"];
        let mut attributes = self.attributes.clone();
        attributes.extend(operation.map(|name| KeyValue::new(name, "send")));
        attributes.extend(more);
        Finished {
            name: self.send.clone().into(),
            kind: SpanKind::Client,
            parent: &self.created,
            links: std::slice::from_ref(&self.created),
            start: self.handed,
            end: SystemTime::now(),
            attributes,
            error,
        }
        .record();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-";

    #[test]
    fn only_a_valid_context_that_is_sampled_is_kept() {
        let with = |traceparent: &[u8]| {
            let mut headers = Headers::default();
            headers.push("traceparent", Some(traceparent.to_vec()));
            headers.push_text("tracestate", "vendor=a");
            created(&headers)
        };
        let found = with(format!("{TRACE}01").as_bytes()).expect("sampled");
        assert_eq!(found.trace_state().header(), "vendor=a");
        for (nothing, why) in [
            (format!("{TRACE}00"), "not sampled"),
            (format!("{TRACE}0a"), "not sampled"),
            (format!("{TRACE}0"), "cut off"),
            (format!("{TRACE}0z"), "no digit"),
            ("1".repeat(55), "no fields"),
            (format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), "no trace"),
            (String::new(), "empty"),
        ] {
            assert_eq!(with(nothing.as_bytes()), None, "{why}");
        }
        assert_eq!(with(&[0xff; 60]), None, "no text");
        assert_eq!(created(&Headers::default()), None);
    }

    #[test]
    fn a_span_shows_only_a_short_key_of_text() {
        let shown = |key: &[u8]| {
            let created = created(
                &[("traceparent".to_owned(), Some(format!("{TRACE}01").into_bytes()))].into_iter().collect(),
            );
            let row = Row {
                id: 1,
                topic: "t".into(),
                partition: None,
                key: Some(key.to_vec()),
                headers: Vec::new(),
                payload: None,
                created_at: 0.0,
            };
            let sending = Sending::now(created.expect("sampled"), &row, &Headers::default(), None);
            sending.attributes.iter().any(|shown| shown.key.as_str() == "messaging.kafka.message.key")
        };
        assert!(shown(&[b'k'; KEY_BYTES]));
        assert!(!shown(&[b'k'; KEY_BYTES + 1]) && !shown(&[0xff]));
    }
}

//! One event as it is stored and published: CloudEvents 1.0 in Kafka's binary mode.

use std::{borrow::Cow, fmt::Display, time::SystemTime};

use prost::{Message, Name};
use telemetry::{KeyValue, SpanContext, SpanKind, propagation, span::Finished};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::Headers;

/// An event on its way to the outbox.
#[derive(Clone, Debug)]
pub struct Event {
    /// UUIDv7, made once: `ce_id`, and with the source the key by which consumers drop repeats.
    pub id: Uuid,
    /// Logical topic, without a deployment's prefix.
    pub topic: Cow<'static, str>,
    /// Record key; events of one key keep their order.
    pub key: Option<Vec<u8>>,
    /// `ce_subject`.
    pub aggregate_id: Option<String>,
    /// `ce_sequence`: the version of the aggregate that caused it.
    pub sequence: Option<i64>,
    /// In wire order.
    pub headers: Headers,
    /// Protobuf bytes.
    pub payload: Option<Vec<u8>>,
    /// Only where the partition must not be computed from the key.
    pub partition: Option<i32>,
}

impl Event {
    /// Key, headers and payload together, in bytes.
    pub fn size(&self) -> usize {
        self.headers.size()
            + self.key.as_ref().map_or(0, Vec::len)
            + self.payload.as_ref().map_or(0, Vec::len)
    }
}

/// Who makes events: `ce_source`, such as `/orderly/billing`.
#[derive(Clone, Copy, Debug)]
pub struct Source(&'static str);

impl Source {
    /// A source; a service has exactly one.
    pub const fn new(source: &'static str) -> Self {
        Self(source)
    }

    /// An event of the aggregate with this id, keyed by it, caused by its `sequence`-th event.
    ///
    /// At most one event per topic and sequence. Its creation is a span, child of the current one, and goes along as the
    /// record's trace context: <https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/#creation-context>.
    pub fn event<M: Message + Name>(
        &self,
        topic: &'static str,
        aggregate_id: impl Display,
        sequence: i32,
        message: &M,
    ) -> Event {
        let id = Uuid::now_v7();
        let subject = aggregate_id.to_string();
        // Formatting a UTC time of this era as RFC 3339 cannot fail; an empty header would be refused by consumers.
        let time = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let mut headers = Headers::default();
        headers.push_text("ce_specversion", "1.0");
        headers.push_text("ce_id", id.to_string());
        headers.push_text("ce_source", self.0);
        headers.push_text("ce_type", M::full_name());
        headers.push_text("ce_time", time);
        headers.push_text("ce_subject", subject.as_str());
        headers.push_text("ce_sequence", sequence.to_string());
        headers.push_text("content-type", "application/protobuf");
        let created = created(topic, &id, &subject);
        for (name, value) in telemetry::propagation::write(&created) {
            headers.push_text(name, value);
        }
        Event {
            id,
            topic: Cow::Borrowed(topic),
            key: Some(subject.clone().into_bytes()),
            aggregate_id: Some(subject),
            sequence: Some(i64::from(sequence)),
            headers,
            payload: Some(message.encode_to_vec()),
            partition: None,
        }
    }
}

/// The creation context of an event: what others do with it leads back here.
fn created(topic: &'static str, id: &Uuid, key: &str) -> SpanContext {
    let parent = propagation::current();
    if !parent.is_sampled() {
        return parent;
    }
    let now = SystemTime::now();
    Finished {
        name: format!("create {topic}").into(),
        kind: SpanKind::Producer,
        parent: &parent,
        links: &[],
        start: now,
        end: now,
        attributes: vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", "create"),
            KeyValue::new("messaging.operation.type", "create"),
            KeyValue::new("messaging.destination.name", topic),
            KeyValue::new("messaging.message.id", id.to_string()),
            KeyValue::new("messaging.kafka.message.key", key.to_owned()),
        ],
        error: None,
    }
    .record()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aggregate_may_have_any_text_for_an_id() {
        let event = Source::new("/shop/catalogue").event("product-events", "gaming-mouse", 7, &());
        assert_eq!(event.key.as_deref(), Some(b"gaming-mouse".as_slice()));
        assert_eq!(event.aggregate_id.as_deref(), Some("gaming-mouse"));
        assert_eq!(event.headers.text("ce_subject"), Some("gaming-mouse"));
        assert_eq!((event.sequence, event.headers.text("ce_sequence")), (Some(7), Some("7")));
    }
}

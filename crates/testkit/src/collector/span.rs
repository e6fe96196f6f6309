//! A span, as a test reads it.

use std::{collections::BTreeMap, fmt};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    trace::v1::{ResourceSpans, Span as Exported, status::StatusCode},
};
use serde_json::{Map, Value};

/// An exported span.
#[derive(Clone, Debug)]
pub struct Span {
    /// `service.name` of its resource.
    pub service: String,
    /// Attributes of its resource.
    pub resource: BTreeMap<String, Value>,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// 16 hexadecimal digits; nothing where it is the root of its trace.
    pub parent_span_id: Option<String>,
    /// What else it has to do with.
    pub links: Vec<Link>,
    /// Its attributes.
    pub attributes: BTreeMap<String, Value>,
    /// What happened in it.
    pub events: Vec<Event>,
    /// Nanoseconds since the epoch.
    pub start: u64,
    /// Nanoseconds since the epoch.
    pub end: u64,
    /// Why it failed, where it did; may be empty.
    pub error: Option<String>,
}

/// The kind of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Within a process, or none was said.
    Internal,
    /// Answers a call.
    Server,
    /// Makes a call.
    Client,
    /// Makes a message.
    Producer,
    /// Takes a message.
    Consumer,
}

/// A link to a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its trace.
    pub trace_id: String,
    /// Its id.
    pub span_id: String,
}

/// An event of a span.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its attributes.
    pub attributes: BTreeMap<String, Value>,
}

impl Span {
    /// An attribute that is a text.
    pub fn text(&self, attribute: &str) -> Option<&str> {
        self.attributes.get(attribute)?.as_str()
    }

    /// Whether it is linked to another one.
    pub fn is_linked_to(&self, other: &Self) -> bool {
        self.links.iter().any(|link| link.trace_id == other.trace_id && link.span_id == other.span_id)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, name, kind, trace_id, span_id, .. } = self;
        let parent = self.parent_span_id.as_deref().unwrap_or("root");
        write!(formatter, "{trace_id} {span_id} <- {parent} {service}: {name} ({kind:?})")?;
        self.links.iter().try_for_each(|link| write!(formatter, " => {}/{}", link.trace_id, link.span_id))
    }
}

/// The spans of one resource.
pub(super) fn spans(exported: ResourceSpans) -> Vec<Span> {
    let resource = attributes(exported.resource.map(|resource| resource.attributes).unwrap_or_default());
    let of_scopes = exported.scope_spans.into_iter().flat_map(|scope| scope.spans);
    of_scopes.map(|exported| span(&resource, exported)).collect()
}

fn span(resource: &BTreeMap<String, Value>, exported: Exported) -> Span {
    let links = exported.links.iter();
    let events = exported.events.into_iter();
    Span {
        service: resource.get("service.name").and_then(Value::as_str).unwrap_or_default().to_owned(),
        resource: resource.clone(),
        kind: match exported.kind {
            2 => Kind::Server,
            3 => Kind::Client,
            4 => Kind::Producer,
            5 => Kind::Consumer,
            _ => Kind::Internal,
        },
        name: exported.name,
        trace_id: hex(&exported.trace_id),
        span_id: hex(&exported.span_id),
        parent_span_id: Some(hex(&exported.parent_span_id)).filter(|id| !id.is_empty()),
        links: links
            .map(|link| Link { trace_id: hex(&link.trace_id), span_id: hex(&link.span_id) })
            .collect(),
        attributes: attributes(exported.attributes),
        events: events
            .map(|event| Event { name: event.name, attributes: attributes(event.attributes) })
            .collect(),
        start: exported.start_time_unix_nano,
        end: exported.end_time_unix_nano,
        error: exported
            .status
            .filter(|status| status.code == StatusCode::Error as i32)
            .map(|status| status.message),
    }
}

fn attributes(exported: Vec<KeyValue>) -> BTreeMap<String, Value> {
    exported.into_iter().map(|KeyValue { key, value, .. }| (key, json(value))).collect()
}

fn json(value: Option<AnyValue>) -> Value {
    match value.and_then(|value| value.value) {
        Some(Any::StringValue(text)) => text.into(),
        Some(Any::BoolValue(truth)) => truth.into(),
        Some(Any::IntValue(number)) => number.into(),
        Some(Any::DoubleValue(number)) => number.into(),
        Some(Any::BytesValue(bytes)) => hex(&bytes).into(),
        Some(Any::ArrayValue(array)) => array.values.into_iter().map(|value| json(Some(value))).collect(),
        Some(Any::KvlistValue(list)) => Value::Object(Map::from_iter(attributes(list.values))),
        _ => Value::Null,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

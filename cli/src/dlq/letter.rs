//! A letter as data.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use consumer::dead_letters::Letter;
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::decode;

/// `topic[partition]@offset`.
pub(super) fn place(letter: &Letter) -> String {
    let (topic, partition, offset) = &letter.place;
    format!("{topic}[{partition}]@{offset}")
}

/// Everything about it. Bytes are in base64, and as text too where they are text.
pub(super) fn json(letter: &Letter, consumer: &str) -> Map<String, Value> {
    let (topic, partition, offset) = &letter.place;
    let moment = |at: Option<OffsetDateTime>| at.and_then(|at| at.format(&Rfc3339).ok());
    let decoded = letter.payload.as_ref().map(|payload| decode::json(letter.event_type.as_deref(), payload));
    let (decoded, decode_error) = match decoded {
        None => (None, None),
        Some(Ok(decoded)) => (Some(decoded), None),
        Some(Err(why)) => (None, Some(why)),
    };
    let headers: Vec<Value> = letter
        .headers
        .iter()
        .map(|(name, value)| json!({ "name": name, "base64": value.map(base64), "text": value.and_then(text) }))
        .collect();
    let value = json!({
        "id": letter.id,
        "state": letter.state,
        "consumer": consumer,
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "key_base64": letter.key.as_deref().map(base64),
        "key_text": letter.key.as_deref().and_then(text),
        "source": letter.source,
        "event_id": letter.event_id,
        "event_type": letter.event_type,
        "kind": letter.kind,
        "error": letter.error,
        "fingerprint": letter.fingerprint,
        "attempts": letter.attempts,
        "replays": letter.replays,
        "first_failed_at": moment(letter.first_failed_at),
        "last_failed_at": moment(letter.last_failed_at),
        "parked_at": moment(Some(letter.parked_at)),
        "version": letter.version,
        "trace_id": letter.trace_id,
        "replay": letter.replay,
        "headers": headers,
        "payload_base64": letter.payload.as_deref().map(base64),
        "payload": decoded,
        "payload_error": decode_error,
    });
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

//! A record as handlers see it: CloudEvents 1.0 in Kafka's binary mode, checked.

use outbox::Headers;
use prost::Name;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use uuid::Uuid;

use crate::HandleError;

const DAY_MS: u64 = 86_400_000;
/// The longest attribute that is taken: it becomes part of the inbox's key.
const MAX_ATTRIBUTE_BYTES: usize = 256;

/// One record of a subscribed topic.
#[derive(Clone, Debug)]
pub struct Message {
    /// Logical topic, without the deployment's prefix.
    pub topic: String,
    /// Partition it was read from.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Record key.
    pub key: Option<Vec<u8>>,
    /// Every header in wire order.
    pub headers: Headers,
    /// Value; empty where the record has none.
    pub payload: Vec<u8>,
    /// `ce_source`; empty until [`Message::check`] has passed.
    pub source: String,
    /// `ce_id`, a UUIDv7; nil until [`Message::check`] has passed.
    pub id: Uuid,
    /// `ce_type`, the full protobuf name; empty until [`Message::check`] has passed.
    pub event_type: String,
}

impl Message {
    /// Copies a record out of the client's buffer.
    pub(crate) fn from_record(record: &BorrowedMessage<'_>, prefix: &str) -> Self {
        let headers = record.headers().map(|headers| {
            let pairs =
                headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)));
            pairs.collect::<Headers>()
        });
        Self {
            topic: record.topic().strip_prefix(prefix).unwrap_or(record.topic()).to_owned(),
            partition: record.partition(),
            offset: record.offset(),
            key: record.key().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
            payload: record.payload().unwrap_or_default().to_vec(),
            source: String::new(),
            id: Uuid::nil(),
            event_type: String::new(),
        }
    }

    /// Reads the CloudEvents attributes that the inbox and the handlers need.
    pub(crate) fn check(&mut self) -> Result<(), HandleError> {
        let required = |name: &str| {
            let value = self.headers.text(name).filter(|value| !value.is_empty());
            let value =
                value.ok_or_else(|| HandleError::poison(format!("header {name} is missing or not text")))?;
            if value.len() > MAX_ATTRIBUTE_BYTES || value.contains('\0') {
                return Err(HandleError::poison(format!(
                    "header {name} has a zero byte, or more than {MAX_ATTRIBUTE_BYTES} bytes"
                )));
            }
            Ok(value.to_owned())
        };
        let (source, id, event_type) = (required("ce_source")?, required("ce_id")?, required("ce_type")?);
        let id = Uuid::parse_str(&id).map_err(|_| HandleError::poison("header ce_id is no UUID"))?;
        if id.get_version_num() != 7 {
            return Err(HandleError::poison("header ce_id is no UUIDv7"));
        }
        (self.source, self.id, self.event_type) = (source, id, event_type);
        Ok(())
    }

    /// Whether the record says that it carries this message type.
    pub fn is<M: Name>(&self) -> bool {
        self.event_type == M::full_name()
    }

    /// The payload as this message type; what does not decode is poison.
    pub fn decode<M: prost::Message + Name + Default>(&self) -> Result<M, HandleError> {
        M::decode(self.payload.as_slice())
            .map_err(|error| HandleError::poison(format!("payload is no {}: {error}", M::full_name())))
    }

    /// The inbox leaf: the day inside the id.
    pub(crate) fn slot(&self) -> i16 {
        let milliseconds = (self.id.as_u128() >> 80) as u64;
        (milliseconds / DAY_MS % 32) as i16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: &[(&str, &str)]) -> Message {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), Some(value.as_bytes().to_vec())));
        Message {
            topic: "topic".into(),
            partition: 0,
            offset: 0,
            key: None,
            headers: headers.collect(),
            payload: Vec::new(),
            source: String::new(),
            id: Uuid::nil(),
            event_type: String::new(),
        }
    }

    #[test]
    fn a_stranger_is_poison_with_the_header_named() {
        let valid =
            [("ce_source", "/s"), ("ce_id", "0199aa00-0000-7000-8000-000000000000"), ("ce_type", "a.B")];
        assert!(message(&valid).check().is_ok());
        for missing in 0..valid.len() {
            let mut headers = valid.to_vec();
            let (name, _) = headers.remove(missing);
            let error = message(&headers).check().expect_err("a header is missing");
            assert!(error.to_string().contains(name), "{error}");
        }
        for id in ["", "nonsense", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"] {
            let headers = [valid[0], ("ce_id", id), valid[2]];
            assert!(message(&headers).check().is_err(), "{id}");
        }
        for source in ["/a\0b".to_owned(), "s".repeat(MAX_ATTRIBUTE_BYTES + 1)] {
            let error = message(&[("ce_source", &source), valid[1], valid[2]]).check().expect_err(&source);
            assert!(error.to_string().contains("ce_source"), "{error}");
        }
    }

    #[test]
    fn the_leaf_is_the_day_of_the_id() {
        let mut one = message(&[]);
        let day = |day: u128| Uuid::from_u128((day * u128::from(DAY_MS)) << 80 | 7 << 76);
        one.id = day(20_000);
        assert_eq!(one.slot(), (20_000 % 32) as i16);
        one.id = day(20_031);
        assert_eq!(one.slot(), (20_031 % 32) as i16);
    }
}

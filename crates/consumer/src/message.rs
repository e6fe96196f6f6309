//! A record as handlers see it: CloudEvents 1.0 in Kafka's binary mode, checked.

use std::{
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, SystemTime},
};

use outbox::Headers;
use prost::Name;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use tracing::Span;
use uuid::Uuid;

use crate::{HandleError, Kind, error::Failure};

const DAY: Duration = Duration::from_secs(86_400);
/// How long the inbox remembers, less than its ring by two days. Longer than the retention of topics and the longest
/// outage together.
const WINDOW: Duration = Duration::from_secs(28 * DAY.as_secs());
/// How far a clock may be ahead.
const AHEAD: Duration = DAY;
/// To the end of the year 9999: a producer may say anything.
const TIMESTAMPS: RangeInclusive<i64> = 0..=253_402_300_799_999;
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
    /// Value.
    pub payload: Option<Vec<u8>>,
    /// Kafka's timestamp, in milliseconds since 1970; none where it is no time of this era.
    pub timestamp: Option<i64>,
    /// `ce_source`; empty where the headers are not an event's.
    pub source: String,
    /// `ce_id`, a UUIDv7; nil where the headers are not an event's.
    pub id: Uuid,
    /// `ce_type`, the full protobuf name; empty where the headers are not an event's.
    pub event_type: String,
    /// The span in which a batch processes it; none outside of one.
    pub span: Option<Span>,
}

impl Message {
    /// Copies a record out of the client's buffer.
    pub(crate) fn from_record(record: &BorrowedMessage<'_>, prefix: &str) -> Self {
        let headers = record.headers().map(|headers| {
            // rdkafka panics at a name that is not UTF-8.
            let pair = |index| {
                let header = catch_unwind(AssertUnwindSafe(|| headers.get(index)));
                header.map_or_else(
                    |_| (char::REPLACEMENT_CHARACTER.to_string(), None),
                    |header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)),
                )
            };
            (0..headers.count()).map(pair).collect::<Headers>()
        });
        Self {
            topic: record.topic().strip_prefix(prefix).unwrap_or(record.topic()).to_owned(),
            partition: record.partition(),
            offset: record.offset(),
            key: record.key().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
            payload: record.payload().map(<[u8]>::to_vec),
            timestamp: record.timestamp().to_millis().filter(|millis| TIMESTAMPS.contains(millis)),
            source: String::new(),
            id: Uuid::nil(),
            event_type: String::new(),
            span: None,
        }
    }

    /// Reads the CloudEvents attributes that the inbox and the handlers need.
    pub(crate) fn identify(&mut self) -> Result<(), Failure> {
        let poison = |error: String| Failure { kind: Kind::Poison, error };
        let required = |name: &str| {
            let value = self.headers.text(name).filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| poison(format!("header {name} is missing or not text")))?;
            if value.len() > MAX_ATTRIBUTE_BYTES || value.contains('\0') {
                return Err(poison(format!(
                    "header {name} has a zero byte, or more than {MAX_ATTRIBUTE_BYTES} bytes"
                )));
            }
            Ok(value.to_owned())
        };
        let (source, id, event_type) = (required("ce_source")?, required("ce_id")?, required("ce_type")?);
        let id = Uuid::parse_str(&id).map_err(|_| poison("header ce_id is no UUID".to_owned()))?;
        if id.get_version_num() != 7 {
            return Err(poison("header ce_id is no UUIDv7".to_owned()));
        }
        (self.source, self.id, self.event_type) = (source, id, event_type);
        Ok(())
    }

    /// Whether the inbox would notice a repeat: the headers are an event's, of a time that it remembers.
    pub(crate) fn check(&self, now: SystemTime) -> Result<(), Failure> {
        if self.id.is_nil() {
            // Again, for its words.
            return self.clone().identify();
        }
        self.check_age(now)
    }

    fn check_age(&self, now: SystemTime) -> Result<(), Failure> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (kind, error) = if self.made_at() + WINDOW < now {
            (
                Kind::TooOld,
                format!("the event is older than {} days, as far as the inbox remembers", days(WINDOW)),
            )
        } else if self.made_at() > now + AHEAD {
            (Kind::Clock, "the time in header ce_id is more than a day ahead".to_owned())
        } else {
            return Ok(());
        };
        Err(Failure { kind, error })
    }

    /// Key, headers and value together, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.headers.size()
            + self.key.as_ref().map_or(0, Vec::len)
            + self.payload.as_ref().map_or(0, Vec::len)
    }

    /// Whether the record says that it carries this message type.
    pub fn is<M: Name>(&self) -> bool {
        self.event_type == M::full_name()
    }

    /// The payload as this message type; what does not decode is poison.
    pub fn decode<M: prost::Message + Name + Default>(&self) -> Result<M, HandleError> {
        M::decode(self.payload.as_deref().unwrap_or_default())
            .map_err(|error| HandleError::poison(format!("payload is no {}: {error}", M::full_name())))
    }

    /// The inbox leaf: the day inside the id.
    pub(crate) fn slot(&self) -> i16 {
        (days(self.made_at()) % 32) as i16
    }

    /// When its event was made, since 1970, by the id.
    pub(crate) fn made_at(&self) -> Duration {
        Duration::from_millis((self.id.as_u128() >> 80) as u64)
    }
}

const fn days(time: Duration) -> u64 {
    time.as_secs() / DAY.as_secs()
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
            payload: None,
            timestamp: None,
            source: String::new(),
            id: Uuid::nil(),
            event_type: String::new(),
            span: None,
        }
    }

    #[test]
    fn a_stranger_is_poison_with_the_header_named() {
        let valid =
            [("ce_source", "/s"), ("ce_id", "0199aa00-0000-7000-8000-000000000000"), ("ce_type", "a.B")];
        assert!(message(&valid).identify().is_ok());
        for missing in 0..valid.len() {
            let mut headers = valid.to_vec();
            let (name, _) = headers.remove(missing);
            let error = message(&headers).identify().expect_err("a header is missing");
            assert!(error.error.contains(name), "{error:?}");
        }
        for id in ["", "nonsense", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"] {
            let headers = [valid[0], ("ce_id", id), valid[2]];
            assert!(message(&headers).identify().is_err(), "{id}");
        }
        for source in ["/a\0b".to_owned(), "s".repeat(MAX_ATTRIBUTE_BYTES + 1)] {
            let error = message(&[("ce_source", &source), valid[1], valid[2]]).identify().expect_err(&source);
            assert!(error.error.contains("ce_source"), "{error:?}");
        }
    }

    fn day(day: u128) -> Uuid {
        Uuid::from_u128((day * 86_400_000) << 80 | 7 << 76)
    }

    #[test]
    fn what_the_inbox_does_not_remember_is_not_taken() {
        let today = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let kind = |of: u128| {
            let message = Message { id: day(of), ..message(&[]) };
            message.check_age(today).err().map(|failure| failure.kind)
        };
        assert_eq!([19_971, 19_972, 20_000, 20_001].map(kind), [Some(Kind::TooOld), None, None, None]);
        assert_eq!(kind(20_002), Some(Kind::Clock));
    }

    #[test]
    fn the_leaf_is_the_day_of_the_id() {
        let mut one = message(&[]);
        one.id = day(20_000);
        assert_eq!(one.slot(), (20_000 % 32) as i16);
        one.id = day(20_031);
        assert_eq!(one.slot(), (20_031 % 32) as i16);
    }
}

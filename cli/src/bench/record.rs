//! The events that are measured with: numbered, 300 bytes each, the same for every publisher.

use rdkafka::message::{BorrowedMessage, Message as _};
use uuid::Uuid;

/// Size of every payload in bytes.
pub(super) const PAYLOAD_BYTES: usize = 300;
/// Distinct keys.
pub(super) const KEYS: u64 = 10_000;
/// In front of the number, which has [`DIGITS`] digits.
const HEAD: &str = r#"{"number":""#;
const DIGITS: usize = 20;

/// One event: its number within a measurement, and which key it has. Numbers of one key are written in ascending order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) number: u64,
    pub(super) key: u64,
}

impl Record {
    /// The record key, and the id of the aggregate.
    pub(super) fn aggregate_id(self) -> Uuid {
        Uuid::from_u64_pair(scatter(self.key), scatter(!self.key))
    }

    /// Text that is half fixed, as field names are, and half random, as ids are; so compression finds what it would.
    pub(super) fn payload(self) -> String {
        let mut payload = format!(
            r#"{HEAD}{:020}","customer":"customer-{}","currency":"EUR","total":{},"items":[{{"product":"gaming-mouse","quantity":1,"reservation":""#,
            self.number,
            self.key,
            self.number % 100_000,
        );
        let mut salt = self.number;
        while payload.len() < PAYLOAD_BYTES - 4 {
            salt = scatter(salt);
            payload.push_str(&format!("{salt:016x}"));
        }
        payload.truncate(PAYLOAD_BYTES - 4);
        payload.push_str(r#""}]}"#);
        payload
    }
}

/// The number of a record that a consumer has read.
pub(super) fn number(message: &BorrowedMessage<'_>) -> Option<u64> {
    parse(message.payload()?)
}

fn parse(payload: &[u8]) -> Option<u64> {
    let digits = payload.strip_prefix(HEAD.as_bytes())?.get(..DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The finaliser of splitmix64: every bit of the input changes half of the output's.
fn scatter(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_payload_has_the_size_and_tells_its_number() {
        for number in [0, 1, 99_999, 500_000, u64::MAX] {
            let payload = Record { number, key: number % KEYS }.payload();
            assert_eq!(payload.len(), PAYLOAD_BYTES, "{payload}");
            assert!(serde_json::from_str::<serde_json::Value>(&payload).is_ok(), "{payload}");
            assert_eq!(parse(payload.as_bytes()), Some(number));
        }
        assert_eq!(parse(b"{}"), None);
    }

    #[test]
    fn keys_differ() {
        let id = |key| Record { number: 0, key }.aggregate_id();
        assert_ne!(id(0), id(1));
        assert_eq!(id(7), Record { number: 9, key: 7 }.aggregate_id());
    }
}

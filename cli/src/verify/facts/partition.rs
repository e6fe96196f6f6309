//! Where the records of a key are, and what retention may have taken from there.

use super::{Key, Log, Record, Topic};

/// Where retention has left a partition.
#[derive(Clone, Copy, Debug)]
pub(in crate::verify) struct Span {
    pub(in crate::verify) low: i64,
    /// Timestamp of the first record that is left, in milliseconds.
    pub(in crate::verify) first_ms: Option<i64>,
    /// What is younger than this, in milliseconds since 1970, the topic's retention has not removed.
    pub(in crate::verify) expired_ms: i64,
}

impl Log {
    /// From this moment on (milliseconds since 1970) retention has removed nothing from the partition of the key.
    pub(in crate::verify) fn kept_since(&self, topic: Topic, key: &Key) -> i64 {
        let span = self.partitions.get(&(topic, self.partition(topic, key)));
        match span {
            // Without its first record a partition tells nothing but this: what was not due was not removed.
            Some(span) if span.low > 0 => span.expired_ms.min(span.first_ms.unwrap_or(i64::MAX)),
            _ => i64::MIN,
        }
    }

    /// The records of a key, by source.
    pub(in crate::verify) fn of_key(&self, topic: Topic, key: &Key) -> &[Record] {
        let of = |record: &Record| (record.topic, &record.key).cmp(&(topic, key));
        let first = self.records.partition_point(|record| of(record).is_lt());
        let records = self.records.get(first..).unwrap_or_default();
        &records[..records.partition_point(|record| of(record).is_eq())]
    }

    /// Where the key has records, or else where Kafka's clients put them.
    fn partition(&self, topic: Topic, key: &Key) -> i32 {
        match self.of_key(topic, key).first() {
            Some(record) => record.partition,
            None => {
                let count = self.partitions.range((topic, i32::MIN)..=(topic, i32::MAX)).count();
                of_key(key, i32::try_from(count).unwrap_or(i32::MAX))
            }
        }
    }
}

/// The partition of a key in a topic with that many: the Java client's default.
pub(in crate::verify) fn of_key(key: &Key, count: i32) -> i32 {
    let hash = murmur2(key.to_string().as_bytes());
    (hash & i32::MAX).checked_rem(count).unwrap_or(0)
}

/// The hash of Kafka's Java client (`org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(bytes: &[u8]) -> i32 {
    let multiplier = 0x5bd1_e995_u32;
    // The Java client's lengths have 32 bits.
    let length = bytes.len() as u32;
    let mut hash = bytes.chunks(4).fold(0x9747_b28c ^ length, |hash, chunk| {
        let word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        if chunk.len() < 4 {
            return (hash ^ word).wrapping_mul(multiplier);
        }
        let word = word.wrapping_mul(multiplier);
        hash.wrapping_mul(multiplier) ^ (word ^ word >> 24).wrapping_mul(multiplier)
    });
    hash = (hash ^ hash >> 13).wrapping_mul(multiplier);
    (hash ^ hash >> 15).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the Java client's own test, `UtilsTest.testMurmur2`.
    #[test]
    fn keys_are_hashed_as_the_java_client_does() {
        let known = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }
}

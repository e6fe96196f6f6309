//! Which partition a record goes to.
//!
//! The relay decides, not librdkafka, with murmur2 as Kafka's own Java client does it
//! (`org.apache.kafka.common.utils.Utils.murmur2`): a key stays in its partition whichever client produced before.

/// The partition of a record in a topic with `count` partitions (at least one): the key's, and where there is no key,
/// one after another by the row's id.
#[must_use]
pub fn partition(key: Option<&[u8]>, id: i64, count: i32) -> i32 {
    match key {
        Some(key) => (murmur2(key) & 0x7fff_ffff) % count,
        None => i32::try_from(id.rem_euclid(i64::from(count))).unwrap_or(0),
    }
}

/// `MurmurHash2`, 32 bits, with the Java client's seed.
#[must_use]
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    // Kafka's lengths are int32, and a hash is defined modulo 2^32.
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the Java client's own test, `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_is_the_java_clients() {
        let vectors = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn a_partition_is_within_the_topic() {
        for id in [i64::MIN, -1, 0, 1, 12, i64::MAX] {
            assert!((0..12).contains(&partition(None, id, 12)));
            assert!((0..12).contains(&partition(Some(&id.to_be_bytes()), id, 12)));
        }
        assert_eq!(partition(Some(b"abc"), 7, 12), 479_470_107 % 12);
        assert_eq!(partition(Some(b"foobar"), 7, 12), (-790_332_482_i32 & 0x7fff_ffff) % 12);
    }
}

//! Units of a product, and the buckets that they lie in.

/// How many buckets a product's units lie in. Each partition's worker takes from its own, so that workers do not wait for
/// each other over a product that everybody buys.
pub const BUCKETS: i16 = 16;

/// The most units of one product on hand: far below what 64 bits hold, so that no sum of buckets, and nothing that comes
/// back from a shipment, overflows.
pub const MAX_ON_HAND: i64 = 1_000_000_000_000_000_000;

/// Units of one product. What has been shipped is in none of the numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// Free to be reserved.
    pub available: i64,
    /// Promised to orders.
    pub reserved: i64,
}

/// Why units were not counted in or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCounted {
    /// Fewer are available than are to be counted out.
    #[error("only {available} units are available; what is reserved cannot be counted out")]
    Insufficient {
        /// So many are.
        available: i64,
    },
    /// There would be more than [`MAX_ON_HAND`].
    #[error("must leave at most {MAX_ON_HAND} units on hand")]
    TooMany,
}

impl Stock {
    /// In the warehouse, reserved or not.
    pub fn on_hand(self) -> i64 {
        self.available.saturating_add(self.reserved)
    }
}

/// The bucket that records of this partition take from.
pub fn bucket_of(partition: i32) -> i16 {
    // Below 16 by its definition.
    partition.rem_euclid(i32::from(BUCKETS)) as i16
}

/// Units shared out evenly; the first shares have what cannot be divided.
pub fn share(units: i64, shares: usize) -> Vec<i64> {
    let count = i64::try_from(shares.max(1)).unwrap_or(i64::MAX);
    let (each, left) = (units / count, units % count);
    (0..count).map(|index| each + i64::from(index < left)).collect()
}

/// What is available after so many units were counted in, or out where negative.
pub fn count(stock: Stock, delta: i64) -> Result<Stock, NotCounted> {
    let available = stock.available.saturating_add(delta);
    if available < 0 {
        return Err(NotCounted::Insufficient { available: stock.available });
    }
    let after = Stock { available, ..stock };
    if after.on_hand() > MAX_ON_HAND { Err(NotCounted::TooMany) } else { Ok(after) }
}

/// What is to be available in one's own bucket, and in the others, so that `needed` units can be taken from one's own. With
/// them come a fair share of the rest, so that the next order finds enough. Nothing where all together have too few.
pub fn gather(needed: i64, own: i64, others: &[i64]) -> Option<(i64, Vec<i64>)> {
    let rest = others.iter().fold(own, |sum, other| sum.saturating_add(*other)).checked_sub(needed)?;
    if rest < 0 {
        return None;
    }
    let mut shares = share(rest, others.len() + 1);
    let own = needed + shares.remove(0);
    Some((own, shares))
}

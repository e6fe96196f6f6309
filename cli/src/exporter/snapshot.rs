//! What was found, in plain values: topics and groups by the names that the platform gives them, without its prefix.

use std::collections::BTreeMap;

/// Kafka at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Brokers that answer.
    pub brokers: usize,
    /// Every partition of the platform's topics that exist.
    pub partitions: Vec<Partition>,
    /// Where each group is in each partition that it reads.
    pub positions: Vec<Position>,
    /// What was asked for and not answered, and why: `topic order-created`, `group billing`.
    pub missing: BTreeMap<String, String>,
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub id: i32,
    /// Whether fewer replicas are in sync than there are.
    pub is_under_replicated: bool,
    /// Unknown while it has no leader.
    pub ends: Option<Ends>,
}

/// The offsets that a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Offset of the oldest record.
    pub low: i64,
    /// Offset of the next record.
    pub high: i64,
}

/// Where a group is in a partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    /// The group.
    pub group: &'static str,
    /// The topic.
    pub topic: &'static str,
    /// The partition.
    pub partition: i32,
    /// The offset that it has committed; nothing before its first.
    pub committed: Option<i64>,
    /// Records that it has not committed; those that are gone count too.
    pub lag: i64,
    /// Records that were removed before it has committed them.
    pub lost: i64,
    /// Age of the oldest record that is there and not committed: 0 without one, nothing where it could not be read in
    /// time.
    pub lag_seconds: Option<f64>,
}

impl Position {
    /// The place of a group that has committed this, by what the partition holds. Without a commit a group begins at
    /// the oldest record, as `auto.offset.reset` of the platform's consumers says. Its age is still to be found.
    #[must_use]
    pub fn of(
        group: &'static str,
        topic: &'static str,
        partition: i32,
        committed: Option<i64>,
        Ends { low, high }: Ends,
    ) -> Self {
        let place = committed.unwrap_or(low);
        Self {
            group,
            topic,
            partition,
            committed,
            lag: (high - place).max(0),
            lost: (low - place).max(0),
            lag_seconds: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_counts_from_the_commit_or_from_the_oldest_record() {
        let ends = Ends { low: 10, high: 30 };
        let of = |committed| {
            let position = Position::of("order", "stock-results", 0, committed, ends);
            (position.lag, position.lost)
        };
        assert_eq!(of(None), (20, 0));
        assert_eq!(of(Some(10)), (20, 0));
        assert_eq!(of(Some(30)), (0, 0));
        assert_eq!(of(Some(4)), (26, 6), "six of them are gone");
        assert_eq!(of(Some(31)), (0, 0), "a topic that was made anew");
    }
}

//! How old the oldest transaction is that has written and is still open: its events come late, all others' flow.

use std::{collections::HashMap, time::Duration};

use sqlx::PgConnection;
use tokio::time::Instant;

/// How often they are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The open transactions, by transaction id, and since when each has been known.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    known: HashMap<i64, Instant>,
    looked: Option<Instant>,
}

impl Transactions {
    /// The age of the oldest in seconds, 0 without one; `None` until it is time to look again. PostgreSQL does not tell
    /// everybody when another's transaction began: then it is as old as it has been known here, which is less.
    pub async fn oldest(&mut self, connection: &mut PgConnection) -> Result<Option<f64>, sqlx::Error> {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return Ok(None);
        }
        self.looked = Some(Instant::now());
        let open = sqlx::query_as(include_str!("../sql/transactions.sql")).fetch_all(connection).await?;
        Ok(Some(self.seen(&open, Instant::now())))
    }

    fn seen(&mut self, open: &[(i64, Option<f64>)], now: Instant) -> f64 {
        self.known.retain(|known, _| open.iter().any(|(xid, _)| xid == known));
        let ages = open.iter().map(|(xid, seconds)| {
            let known = now.duration_since(*self.known.entry(*xid).or_insert(now));
            seconds.unwrap_or_default().max(known.as_secs_f64())
        });
        ages.fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_whose_begin_is_unknown_ages_from_when_it_was_first_seen() {
        let (mut transactions, start) = (Transactions::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(transactions.seen(&[(7, None), (8, Some(3.0))], at(0)), 3.0);
        assert_eq!(transactions.seen(&[(7, None), (8, Some(13.0)), (9, None)], at(10)), 13.0);
        assert_eq!(transactions.seen(&[(7, None), (9, None)], at(10)), 10.0);
        assert_eq!(transactions.seen(&[(9, None)], at(11)), 1.0);
        assert_eq!(transactions.seen(&[], at(11)), 0.0);
        assert!(transactions.known.is_empty());
    }
}

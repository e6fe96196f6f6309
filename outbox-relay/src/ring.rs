//! The ring of daily leaves: what is drained is truncated, days before its day comes round again.
//!
//! Checking first and locking second would lose the event of a writer that is still open: so the leaf is locked, the
//! lease checked, and then a fresh statement proves that no row of it is unpublished.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use crate::lease::Lease;

/// Leaves of the ring.
const LEAVES: i16 = 8;
/// How long a leaf's lock may be waited for: writers and readers of that leaf wait behind it.
const LOCK_WITHIN: Duration = Duration::from_millis(100);

/// What the ring holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// Leaves with rows, of eight: three in good order, and eight when yesterday's events mix with last week's.
    pub used: i64,
    /// Leaves that could not be truncated although they were due.
    pub overdue: i64,
}

/// Truncates every leaf that is due and drained. Today's leaf and its neighbours are never due: a writer that began
/// yesterday may still insert there, and a clock may be wrong.
pub async fn maintain(lease: &Lease, connection: &mut PgConnection) -> Result<Ring, sqlx::Error> {
    for (slot, due) in leaves(connection).await? {
        if due {
            clear(slot, lease, connection).await?;
        }
    }
    look(connection).await
}

/// What the ring holds now.
pub async fn look(connection: &mut PgConnection) -> Result<Ring, sqlx::Error> {
    let leaves = leaves(connection).await?;
    let due = leaves.iter().filter(|(_, due)| *due);
    Ok(Ring { used: leaves.len() as i64, overdue: due.count() as i64 })
}

/// The leaves that have rows, and whether they are due.
async fn leaves(connection: &mut PgConnection) -> Result<Vec<(i16, bool)>, sqlx::Error> {
    let rows = sqlx::query(include_str!("sql/ring.sql")).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let slot = row.try_get("slot")?;
            Ok((slot, is_due(slot, row.try_get("today")?)))
        })
        .collect()
}

fn is_due(slot: i16, today: i16) -> bool {
    (2..=LEAVES - 2).contains(&(slot - today).rem_euclid(LEAVES))
}

/// Empties the leaf if it is drained and nobody holds it.
async fn clear(slot: i16, lease: &Lease, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let lock = format!(
        "set local lock_timeout = {}; lock table only outbox.event_{slot} in access exclusive mode",
        LOCK_WITHIN.as_millis()
    );
    if let Err(error) = sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *transaction).await {
        let code = error.as_database_error().and_then(|error| error.code());
        // lock_not_available: somebody reads or writes the leaf; the next turn tries again.
        return if code.as_deref() == Some("55P03") { Ok(()) } else { Err(error) };
    }
    let drained = sqlx::query_scalar(include_str!("sql/drained.sql"))
        .bind(slot)
        .bind(lease.epoch)
        .bind(lease.owner)
        .fetch_optional(&mut *transaction)
        .await?;
    if drained != Some(true) {
        return transaction.rollback().await;
    }
    let truncate = format!("truncate only outbox.event_{slot}");
    sqlx::raw_sql(AssertSqlSafe(truncate)).execute(&mut *transaction).await?;
    transaction.commit().await?;
    tracing::info!(slot, "a drained leaf of the outbox was truncated");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn today_and_its_neighbours_are_never_due() {
        for today in 0..LEAVES {
            let spared = [today, (today + 1) % LEAVES, (today + 7) % LEAVES];
            for slot in 0..LEAVES {
                assert_eq!(is_due(slot, today), !spared.contains(&slot), "slot {slot}, today {today}");
            }
        }
    }
}

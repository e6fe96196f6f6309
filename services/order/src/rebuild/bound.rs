//! How long writers may wait for a swap, as PostgreSQL is told.

use std::time::{Duration, Instant};

use sqlx::PgConnection;

/// What is left of the time for a transaction that others wait for.
#[derive(Clone, Copy)]
pub struct Bound(Option<Instant>);

impl Bound {
    /// Nobody waits.
    pub const NONE: Self = Self(None);

    /// So much time from now on.
    pub fn within(time: Duration) -> Self {
        Self(Some(Instant::now() + time))
    }

    /// Has PostgreSQL cancel the transaction's next statement when the time is over, and end the session soon after
    /// where no further statement comes: the locks are let go also where this process has vanished.
    pub async fn set(self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let Some(until) = self.0 else { return Ok(()) };
        // Zero would be no bound at all.
        let left = until.saturating_duration_since(Instant::now()).as_millis().max(1);
        sqlx::query(
            "select set_config('statement_timeout', $1, true),
                    set_config('idle_in_transaction_session_timeout', $2, true)",
        )
        .bind(left.to_string())
        .bind((left + 1_000).to_string())
        .execute(connection)
        .await?;
        Ok(())
    }
}

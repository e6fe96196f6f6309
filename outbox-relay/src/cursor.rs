//! How far an outbox is published: the algorithm is two snapshots and a diff (`PgQ`'s).
//!
//! Everything visible in the cursor's snapshot is published. A poll is one statement, so it sees exactly what is
//! visible in its own snapshot and returns what the cursor's does not see, by id. Transactions may commit in any order:
//! what was open then is in the old snapshot's list, or above it, and comes now. Where more than a page waits, the
//! snapshot is pinned as the window, which is read in pages by id; at the window's end it becomes the cursor.

use sqlx::PgConnection;

use crate::lease::Lease;

/// A `pg_snapshot`, with what a query needs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub text: String,
    pub xmax: String,
    /// As a PostgreSQL array.
    pub in_progress: String,
}

/// How far the outbox has been published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub snap: Snapshot,
    pub window: Option<Window>,
}

/// A backlog that is read in pages: what its snapshot shows and the cursor's does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    pub snap: Snapshot,
    /// Every row of the window up to this id is published.
    pub id: i64,
}

impl Position {
    /// From the columns of `outbox.cursor`.
    pub fn new(snap: String, win: Option<String>, win_id: i64) -> Result<Self, sqlx::Error> {
        let window = win.map(Snapshot::new).transpose()?.map(|snap| Window { snap, id: win_id });
        Ok(Self { snap: Snapshot::new(snap)?, window })
    }

    /// Whether everything visible in its snapshot, and nothing else, is covered.
    pub fn has_no_window(&self) -> bool {
        self.window.is_none()
    }

    /// Makes the position of a lane durable. No row changed means that the lease is gone.
    pub async fn save_lane(
        &self,
        topic: &str,
        lease: &Lease,
        connection: &mut PgConnection,
    ) -> Result<bool, sqlx::Error> {
        let window = self.window.as_ref();
        let done = sqlx::query(include_str!("sql/advance_lane.sql"))
            .bind(topic)
            .bind(lease.epoch)
            .bind(lease.owner)
            .bind(&self.snap.text)
            .bind(window.map(|window| &window.snap.text))
            .bind(window.map_or(0, |window| window.id))
            .execute(connection)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Makes the position durable, and returns how large the cursor's table is; `None` when the lease is gone.
    pub async fn save(
        &self,
        lease: &Lease,
        published_id: i64,
        connection: &mut PgConnection,
    ) -> Result<Option<i64>, sqlx::Error> {
        let window = self.window.as_ref();
        sqlx::query_scalar(include_str!("sql/advance.sql"))
            .bind(lease.epoch)
            .bind(lease.owner)
            .bind(&self.snap.text)
            .bind(window.map(|window| &window.snap.text))
            .bind(window.map_or(0, |window| window.id))
            .bind(published_id)
            .fetch_optional(connection)
            .await
    }
}

impl Snapshot {
    /// `xmin:xmax:xip,xip`, as PostgreSQL prints it.
    pub fn new(text: String) -> Result<Self, sqlx::Error> {
        let mut parts = text.splitn(3, ':');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(_), Some(xmax), Some(xip)) => {
                Ok(Self { xmax: xmax.to_owned(), in_progress: format!("{{{xip}}}"), text })
            }
            _ => Err(sqlx::Error::Decode(format!("{text} is no snapshot").into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_taken_apart() {
        let snap = Snapshot::new("10:12:10,11".into()).unwrap();
        assert_eq!((snap.xmax.as_str(), snap.in_progress.as_str()), ("12", "{10,11}"));
        assert_eq!(Snapshot::new("10:10:".into()).unwrap().in_progress, "{}");
        assert!(Snapshot::new("10".into()).is_err());
    }
}

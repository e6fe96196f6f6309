//! The algorithm: two snapshots and a diff (`PgQ`'s).
//!
//! Everything visible in the cursor's snapshot is published. A poll is one statement, so it sees exactly what is
//! visible in its own snapshot and returns what the cursor's does not see, by id. Transactions may commit in any order:
//! what was open then is in the old snapshot's list, or above it, and comes now. A poll that finds more than a page pins
//! its snapshot as the window, which is read in pages by id; at the window's end it becomes the cursor.

use std::collections::VecDeque;

use sqlx::{PgConnection, Row as _, postgres::PgRow};

use crate::lease::Lease;

/// Rows in a page.
const PAGE_ROWS: usize = 2_000;
/// Rows in a page of a lane, which holds the others up while it is sent.
const LANE_ROWS: usize = 500;
/// Bytes in a page; one row may be larger.
const PAGE_BYTES: i64 = 8 << 20;
/// Keys of a window that are held in memory.
const WINDOW_KEYS: usize = 150_000;

/// A `pg_snapshot`, with what a query needs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    text: String,
    xmax: String,
    /// As a PostgreSQL array.
    in_progress: String,
}

/// How far the outbox has been published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    snap: Snapshot,
    window: Option<Window>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    snap: Snapshot,
    /// Every row of the window up to this id is published.
    id: i64,
}

/// One event as the outbox has it.
#[derive(Clone, Debug)]
pub struct Row {
    /// The publishing order.
    pub id: i64,
    /// Without prefix.
    pub topic: String,
    /// Where the writer chose the partition itself.
    pub partition: Option<i32>,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// Encoded; see [`outbox::headers`].
    pub headers: Vec<u8>,
    /// The record's value.
    pub payload: Option<Vec<u8>>,
    /// Unix time in seconds.
    pub created_at: f64,
}

impl Row {
    /// Bytes of key, headers and payload.
    pub fn size(&self) -> usize {
        self.headers.len() + self.key.as_ref().map_or(0, Vec::len) + self.payload.as_ref().map_or(0, Vec::len)
    }
}

/// Rows that come next, never none, and where they lead.
#[derive(Debug)]
pub struct Page {
    /// In publishing order.
    pub rows: Vec<Row>,
    /// What is known to wait behind this page.
    pub behind: usize,
    /// The cursor's snapshot before the page.
    snap: Snapshot,
    window: Snapshot,
    complete: bool,
}

/// Reads an outbox under one session, ahead of what is published. What it holds in memory dies with that session.
#[derive(Debug)]
pub struct Reader {
    /// Everything up to here has been read.
    position: Position,
    /// Slot, transaction and id of what comes next in the window.
    keys: VecDeque<(i16, i64, i64)>,
    /// Nothing of the window lies behind `keys`.
    keys_complete: bool,
    /// Of a lane: only this topic's rows, and only those of a window.
    topic: Option<String>,
}

impl Position {
    /// From the columns of `outbox.cursor`.
    pub fn new(snap: String, win: Option<String>, win_id: i64) -> Result<Self, sqlx::Error> {
        let window = win.map(Snapshot::new).transpose()?.map(|snap| Window { snap, id: win_id });
        Ok(Self { snap: Snapshot::new(snap)?, window })
    }
}

impl Position {
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

    /// Makes the position durable. No row changed means that the lease is gone.
    pub async fn save(
        &self,
        lease: &Lease,
        published_id: i64,
        connection: &mut PgConnection,
    ) -> Result<bool, sqlx::Error> {
        let window = self.window.as_ref();
        let done = sqlx::query(include_str!("sql/advance.sql"))
            .bind(lease.epoch)
            .bind(lease.owner)
            .bind(&self.snap.text)
            .bind(window.map(|window| &window.snap.text))
            .bind(window.map_or(0, |window| window.id))
            .bind(published_id)
            .execute(connection)
            .await?;
        Ok(done.rows_affected() == 1)
    }
}

impl Page {
    /// The position once the first `rows` rows, at least one, are published.
    pub fn after(&self, rows: usize) -> Position {
        if self.complete && rows == self.rows.len() {
            return Position { snap: self.window.clone(), window: None };
        }
        let window = Window { snap: self.window.clone(), id: self.rows[rows - 1].id };
        Position { snap: self.snap.clone(), window: Some(window) }
    }
}

impl Reader {
    /// Starts at a position that was just read from the database.
    pub fn new(position: Position) -> Self {
        Self { position, keys: VecDeque::new(), keys_complete: false, topic: None }
    }

    /// Reads one topic's rows, from this position to the end of each window that is pinned.
    pub fn of_topic(position: Position, topic: String) -> Self {
        Self { topic: Some(topic), ..Self::new(position) }
    }

    /// Has a lane read up to where the main cursor is, which has no window open itself.
    pub fn pin(&mut self, main: &Position) {
        self.position.window = Some(Window { snap: main.snap.clone(), id: 0 });
        (self.keys, self.keys_complete) = (VecDeque::new(), false);
    }

    /// The next page, or `None` when everything visible has been read. The one after it begins where this one ends.
    pub async fn next(&mut self, connection: &mut PgConnection) -> Result<Option<Page>, sqlx::Error> {
        let page = self.look(connection).await?;
        if let Some(page) = &page {
            self.position = page.after(page.rows.len());
            let last = page.rows.last().map_or(0, |row| row.id);
            while self.keys.front().is_some_and(|&(_, _, id)| id <= last) {
                self.keys.pop_front();
            }
        }
        Ok(page)
    }

    async fn look(&mut self, connection: &mut PgConnection) -> Result<Option<Page>, sqlx::Error> {
        while let Some(window) = self.position.window.clone() {
            if let Some(page) = self.next_of_window(&window, connection).await? {
                return Ok(Some(page));
            }
            self.position = Position { snap: window.snap, window: None };
        }
        if self.topic.is_some() {
            return Ok(None);
        }
        self.poll(connection).await
    }

    async fn poll(&mut self, connection: &mut PgConnection) -> Result<Option<Page>, sqlx::Error> {
        (self.keys, self.keys_complete) = (VecDeque::new(), false);
        let found = sqlx::query(include_str!("sql/poll.sql"))
            .bind(&self.position.snap.xmax)
            .bind(&self.position.snap.in_progress)
            .bind(PAGE_ROWS as i64 + 1)
            .bind(PAGE_BYTES)
            .fetch_all(connection)
            .await?;
        let Some(first) =
            found.first().filter(|row| row.try_get::<Option<i64>, _>("id").is_ok_and(|id| id.is_some()))
        else {
            return Ok(None);
        };
        let window = Snapshot::new(first.try_get("current")?)?;
        let total = usize::try_from(first.try_get::<i64, _>("found")?).unwrap_or(usize::MAX);
        let rows = found.iter().take(PAGE_ROWS).map(row).collect::<Result<Vec<_>, _>>()?;
        let (behind, complete) = (total - rows.len(), total == rows.len());
        Ok(Some(Page { rows, behind, snap: self.position.snap.clone(), window, complete }))
    }

    async fn next_of_window(
        &mut self,
        window: &Window,
        connection: &mut PgConnection,
    ) -> Result<Option<Page>, sqlx::Error> {
        if self.keys.is_empty() && !self.keys_complete {
            let keys = sqlx::query_as(include_str!("sql/keys.sql"))
                .bind(&self.position.snap.xmax)
                .bind(&self.position.snap.in_progress)
                .bind(&window.snap.text)
                .bind(window.id)
                .bind(WINDOW_KEYS as i64)
                .bind(&self.topic)
                .fetch_all(&mut *connection)
                .await?;
            self.keys_complete = keys.len() < WINDOW_KEYS;
            self.keys = keys.into();
        }
        if self.keys.is_empty() {
            return Ok(None);
        }
        let rows = if self.topic.is_some() { LANE_ROWS } else { PAGE_ROWS };
        let wanted = self.keys.iter().take(rows);
        let (mut slots, mut xids, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for (slot, xid, id) in wanted {
            slots.push(*slot);
            xids.push(*xid);
            ids.push(*id);
        }
        let found = sqlx::query(include_str!("sql/page.sql"))
            .bind(&slots)
            .bind(&xids)
            .bind(&ids)
            .bind(PAGE_BYTES)
            .fetch_all(connection)
            .await?;
        let rows = found.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        if rows.is_empty() || rows.iter().zip(&ids).any(|(row, id)| row.id != *id) {
            return Err(sqlx::Error::Protocol(
                "rows of the outbox have vanished before they were published".into(),
            ));
        }
        let behind = self.keys.len() - rows.len();
        Ok(Some(Page {
            rows,
            behind,
            complete: self.keys_complete && behind == 0,
            snap: self.position.snap.clone(),
            window: window.snap.clone(),
        }))
    }
}

impl Snapshot {
    /// `xmin:xmax:xip,xip`, as PostgreSQL prints it.
    fn new(text: String) -> Result<Self, sqlx::Error> {
        let mut parts = text.splitn(3, ':');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(_), Some(xmax), Some(xip)) => {
                Ok(Self { xmax: xmax.to_owned(), in_progress: format!("{{{xip}}}"), text })
            }
            _ => Err(sqlx::Error::Decode(format!("{text} is no snapshot").into())),
        }
    }
}

/// A row of a page, or of what is parked.
pub fn row(row: &PgRow) -> Result<Row, sqlx::Error> {
    Ok(Row {
        id: row.try_get("id")?,
        topic: row.try_get("topic")?,
        partition: row.try_get("partition")?,
        key: row.try_get("key")?,
        headers: row.try_get("headers")?,
        payload: row.try_get("payload")?,
        created_at: row.try_get("created_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(ids: &[i64], complete: bool) -> Page {
        let row = |&id: &i64| Row {
            id,
            topic: "t".into(),
            partition: None,
            key: None,
            headers: Vec::new(),
            payload: None,
            created_at: 0.0,
        };
        Page {
            rows: ids.iter().map(row).collect(),
            behind: 0,
            snap: Snapshot::new("10:12:10,11".into()).unwrap(),
            window: Snapshot::new("12:15:13".into()).unwrap(),
            complete,
        }
    }

    fn position(win: Option<&str>, id: i64) -> Position {
        Position::new("10:12:10,11".into(), win.map(str::to_owned), id).unwrap()
    }

    #[test]
    fn a_snapshot_is_taken_apart() {
        let snap = Snapshot::new("10:12:10,11".into()).unwrap();
        assert_eq!((snap.xmax.as_str(), snap.in_progress.as_str()), ("12", "{10,11}"));
        assert_eq!(Snapshot::new("10:10:".into()).unwrap().in_progress, "{}");
        assert!(Snapshot::new("10".into()).is_err());
    }

    #[test]
    fn the_cursor_moves_over_what_is_published_and_no_further() {
        assert_eq!(page(&[4, 5, 9], true).after(2), position(Some("12:15:13"), 5));
        assert_eq!(page(&[4, 5, 9], false).after(3), position(Some("12:15:13"), 9));
        assert_eq!(page(&[10], true).after(1), Position::new("12:15:13".into(), None, 0).unwrap());
    }
}

//! Reads what comes next in an outbox, ahead of what is published.

use std::{collections::VecDeque, time::Duration};

use sqlx::{PgConnection, Row as _, postgres::PgRow};
use tokio::time::Instant;

use crate::{
    cursor::{Position, Snapshot, Window},
    session::Server,
    window::{Key, Keys, Opening},
};

/// Rows in a page.
const PAGE_ROWS: usize = 2_000;
/// Rows in a page of a lane, which holds the others up while it is sent.
const LANE_ROWS: usize = 500;
/// Bytes in a page; one row may be larger.
const PAGE_BYTES: usize = 8 << 20;
/// Where as much waits, a poll, which sorts all of it for a page, would take longer than the lease's beat.
const BACKLOG_ROWS: i64 = 20_000;
/// A poll that comes so long after the last one looks for a backlog first.
const PAUSE: Duration = Duration::from_secs(1);

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

/// What a reader has for its caller.
pub enum Next {
    /// The rows that come next.
    Page(Page),
    /// A window is to be opened first, which may take its time, and given to [`Reader::begin`].
    Window(Box<Opening>),
    /// Everything visible has been read.
    Nothing,
}

/// Reads an outbox under one session, ahead of what is published. What it holds in memory dies with that session.
pub struct Reader {
    /// Everything up to here has been read.
    position: Position,
    /// Where the keys of a window are sorted.
    server: Server,
    keys: Option<Keys>,
    /// What of the keys comes next.
    next: VecDeque<Key>,
    /// Of a lane: only this topic's rows, and only those of a window.
    topic: Option<String>,
    polled: Option<Instant>,
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
    pub fn new(position: Position, server: Server) -> Self {
        Self { position, server, keys: None, next: VecDeque::new(), topic: None, polled: None }
    }

    /// Reads one topic's rows, from this position to the end of each window that is pinned.
    pub fn of_topic(position: Position, server: Server, topic: String) -> Self {
        Self { topic: Some(topic), ..Self::new(position, server) }
    }

    /// Everything up to here has been read.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Goes back to a position.
    pub fn restart(&mut self, position: Position) {
        self.position = position;
        (self.next, self.polled) = (VecDeque::new(), None);
        if let Some(keys) = &mut self.keys {
            keys.forget();
        }
    }

    /// Has a lane read up to where the main cursor is, which has no window open itself.
    pub fn pin(&mut self, main: &Position) {
        let window = Window { snap: main.snap.clone(), id: 0 };
        self.restart(Position { snap: self.position.snap.clone(), window: Some(window) });
    }

    /// Goes on with the keys of the window that was to be opened.
    pub fn begin(&mut self, keys: Keys) {
        self.keys = Some(keys);
    }

    /// What comes next. The page after this one begins where it ends.
    pub async fn next(&mut self, connection: &mut PgConnection) -> Result<Next, sqlx::Error> {
        let next = self.look(connection).await?;
        if let Next::Page(page) = &next {
            self.position = page.after(page.rows.len());
        }
        Ok(next)
    }

    async fn look(&mut self, connection: &mut PgConnection) -> Result<Next, sqlx::Error> {
        loop {
            if let Some(window) = self.position.window.clone() {
                let Some(keys) = self.keys.as_mut().filter(|keys| keys.are_of(&window)) else {
                    let topic = self.topic.clone();
                    let connected = self.keys.take().map(Keys::into_connection);
                    let snap = self.position.snap.clone();
                    let opening = Opening::new(&self.server, connected, snap, window, topic);
                    return Ok(Next::Window(Box::new(opening)));
                };
                if self.next.is_empty() {
                    self.next = keys.fetch().await?;
                }
                if !self.next.is_empty() {
                    return self.page_of_window(window.snap, connection).await.map(Next::Page);
                }
                keys.forget();
                self.position = Position { snap: window.snap, window: None };
            }
            if self.topic.is_some() {
                return Ok(Next::Nothing);
            }
            let paused = self.polled.is_none_or(|polled| polled.elapsed() > PAUSE);
            self.polled = Some(Instant::now());
            match self.backlog(paused, connection).await? {
                Some(snap) => self.position.window = Some(Window { snap, id: 0 }),
                None => {
                    return self.poll(connection).await.map(|page| page.map_or(Next::Nothing, Next::Page));
                }
            }
        }
    }

    /// The snapshot of a window, where more waits than a poll should sort.
    async fn backlog(
        &self,
        paused: bool,
        connection: &mut PgConnection,
    ) -> Result<Option<Snapshot>, sqlx::Error> {
        if !paused {
            return Ok(None);
        }
        let found: Option<String> = sqlx::query_scalar(include_str!("sql/behind.sql"))
            .bind(&self.position.snap.xmax)
            .bind(&self.position.snap.in_progress)
            .bind(BACKLOG_ROWS)
            .fetch_optional(connection)
            .await?;
        found.map(Snapshot::new).transpose()
    }

    async fn poll(&mut self, connection: &mut PgConnection) -> Result<Option<Page>, sqlx::Error> {
        let found = sqlx::query(include_str!("sql/poll.sql"))
            .bind(&self.position.snap.xmax)
            .bind(&self.position.snap.in_progress)
            .bind(PAGE_ROWS as i64 + 1)
            .bind(PAGE_BYTES as i64)
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

    /// The next of `self.next`, which is not empty.
    async fn page_of_window(
        &mut self,
        window: Snapshot,
        connection: &mut PgConnection,
    ) -> Result<Page, sqlx::Error> {
        let limit = if self.topic.is_some() { LANE_ROWS } else { PAGE_ROWS };
        let (mut slots, mut xids, mut ids, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0);
        while let Some(key) = self.next.front() {
            bytes += key.bytes;
            if ids.len() == limit || (bytes > PAGE_BYTES && !ids.is_empty()) {
                break;
            }
            slots.push(key.slot);
            xids.push(key.xid);
            ids.push(key.id);
            self.next.pop_front();
        }
        let found = sqlx::query(include_str!("sql/page.sql"))
            .bind(&slots)
            .bind(&xids)
            .bind(&ids)
            .fetch_all(connection)
            .await?;
        let mut rows = found.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        rows.sort_unstable_by_key(|row| row.id);
        if !rows.iter().map(|row| row.id).eq(ids) {
            return Err(sqlx::Error::Protocol(
                "rows of the outbox have vanished before they were published".into(),
            ));
        }
        if self.next.is_empty()
            && let Some(keys) = &mut self.keys
        {
            self.next = keys.fetch().await?;
            if self.next.is_empty() {
                keys.forget();
            }
        }
        let (behind, complete) = (self.next.len(), self.next.is_empty());
        Ok(Page { rows, behind, complete, snap: self.position.snap.clone(), window })
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
    fn the_cursor_moves_over_what_is_published_and_no_further() {
        assert_eq!(page(&[4, 5, 9], true).after(2), position(Some("12:15:13"), 5));
        assert_eq!(page(&[4, 5, 9], false).after(3), position(Some("12:15:13"), 9));
        assert_eq!(page(&[10], true).after(1), Position::new("12:15:13".into(), None, 0).unwrap());
    }
}

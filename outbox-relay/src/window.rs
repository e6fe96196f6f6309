//! The keys of a backlog window, in publishing order.
//!
//! They are sorted once, by PostgreSQL, into a cursor WITH HOLD: it keeps no snapshot open, so vacuum goes on, however
//! long Kafka takes for the window. That has a connection of its own, for it may take longer than the lease's beat.

use std::{collections::VecDeque, time::Duration};

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};

use crate::{
    cursor::{Snapshot, Window},
    session::Server,
};

/// Keys that are held in memory.
const KEYS: usize = 20_000;
/// How long PostgreSQL may sort: a backlog of days should not make the relay start over.
const SORT_WITHIN: Duration = Duration::from_secs(3600);
/// How long its answer is waited for.
pub const OPEN_WITHIN: Duration = Duration::from_secs(3600 + 60);

/// Where a row is, and how large.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub struct Key {
    /// The leaf.
    pub slot: i16,
    /// The transaction.
    pub xid: i64,
    /// The publishing order.
    pub id: i64,
    /// Of key, headers and payload.
    #[sqlx(rename = "size", try_from = "i32")]
    pub bytes: usize,
}

/// A window whose keys are to be sorted.
pub struct Opening {
    server: Server,
    connected: Option<PgConnection>,
    snap: Snapshot,
    window: Window,
    topic: Option<String>,
}

/// The sorted keys of a window. Dropping it frees them.
pub struct Keys {
    connection: PgConnection,
    /// The window's snapshot, until the window is over.
    window: Option<Snapshot>,
}

impl Opening {
    /// Of what `window` shows and `snap` does not, and only of one topic for a lane. `connected` is of an earlier window.
    pub fn new(
        server: &Server,
        connected: Option<PgConnection>,
        snap: Snapshot,
        window: Window,
        topic: Option<String>,
    ) -> Self {
        Self { server: server.clone(), connected, snap, window, topic }
    }

    /// Sorts the keys.
    pub async fn open(self) -> Result<Keys, sqlx::Error> {
        let mut connection = match self.connected {
            Some(mut connection) => {
                sqlx::raw_sql("close all").execute(&mut connection).await?;
                connection
            }
            None => connect(&self.server).await?,
        };
        let mut transaction = connection.begin().await?;
        sqlx::query(concat!("declare keys no scroll cursor with hold for\n", include_str!("sql/keys.sql")))
            .bind(&self.snap.xmax)
            .bind(&self.snap.in_progress)
            .bind(&self.window.snap.text)
            .bind(self.window.id)
            .bind(&self.topic)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Keys { connection, window: Some(self.window.snap) })
    }
}

async fn connect(server: &Server) -> Result<PgConnection, sqlx::Error> {
    let seconds = format!("{}s", SORT_WITHIN.as_secs());
    let options = server.options().clone().disable_statement_logging().options([
        ("statement_timeout", seconds.as_str()),
        ("idle_in_transaction_session_timeout", "0"),
        ("work_mem", "32MB"),
    ]);
    server.connect(&options).await
}

impl Keys {
    /// The next ones; none at the end of the window.
    pub async fn fetch(&mut self) -> Result<VecDeque<Key>, sqlx::Error> {
        let fetch = AssertSqlSafe(format!("fetch forward {KEYS} from keys"));
        Ok(sqlx::query_as(fetch).fetch_all(&mut self.connection).await?.into())
    }

    /// Whether they are of this window. Those of another one would let all of it be passed over.
    pub fn are_of(&self, window: &Window) -> bool {
        self.window.as_ref() == Some(&window.snap)
    }

    /// The window is over.
    pub fn forget(&mut self) {
        self.window = None;
    }

    /// For the next window.
    pub fn into_connection(self) -> PgConnection {
        self.connection
    }
}

//! Reads the events of all watched orders: one statement for many.

use std::{
    collections::HashMap,
    io,
    time::{Duration, Instant},
};

use service::status::from_sql;
use sqlx::{FromRow as _, PgPool, Row as _};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::registry::{Batch, Registry};
use crate::store::StoredEvent;

/// How often it is looked which orders were not read of late, and of when on they are. An order is read again within
/// twice this.
const REFRESH: Duration = Duration::from_millis(500);
/// Pause after a read that has failed.
const PAUSE: Duration = Duration::from_millis(500);
/// How long one read may take. A primary that has vanished says nothing for minutes.
const ANSWER: Duration = Duration::from_secs(5);
/// How long streams stay open while nothing can be read.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads for ever. While one statement runs, what is woken gathers for the next.
pub async fn read(pool: &PgPool, registry: &Registry) {
    let (mut refreshed, mut failing) = (Instant::now(), None::<Instant>);
    loop {
        if refreshed.elapsed() >= REFRESH {
            registry.refresh(REFRESH);
            refreshed = Instant::now();
        }
        let Some(batch) = registry.begin() else {
            let _ = timeout(REFRESH.saturating_sub(refreshed.elapsed()), registry.woken()).await;
            continue;
        };
        match events(pool, &batch).await {
            Ok(found) => {
                failing = None;
                registry.publish(&batch, found);
            }
            Err(error) => {
                let failure = from_sql(error);
                registry.again(batch, &failure);
                if failing.get_or_insert_with(Instant::now).elapsed() >= PATIENCE {
                    // Another replica may still have its database; a stream goes on there from its last version.
                    registry.fail(&failure);
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// What has happened since to each order of a batch. One event that cannot be read spoils nothing but its order.
async fn events(pool: &PgPool, batch: &Batch) -> sqlx::Result<HashMap<Uuid, Vec<sqlx::Result<StoredEvent>>>> {
    let mut connection = pool.acquire().await?;
    let read = sqlx::query(include_str!("../sql/watched_events.sql"))
        .bind(&batch.orders)
        .bind(&batch.known)
        .fetch_all(&mut *connection);
    let Ok(rows) = timeout(ANSWER, read).await else {
        // Nobody else should wait for its answer.
        connection.close_on_drop();
        return Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into()));
    };
    let rows = rows?;
    let mut events: HashMap<Uuid, Vec<sqlx::Result<StoredEvent>>> = HashMap::new();
    for row in &rows {
        events.entry(row.try_get("order_id")?).or_default().push(StoredEvent::from_row(row));
    }
    Ok(events)
}

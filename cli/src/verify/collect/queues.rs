//! Outbox and inbox, which every database has.

use futures_util::TryStreamExt as _;
use sqlx::{PgConnection, Row as _};

use super::digest;
use crate::{
    platform::Database,
    verify::facts::{Group, InboxRow, Key, OutboxRow, Overtaken, Topic},
};

/// Reads what the ring still holds.
pub(super) async fn outbox(
    connection: &mut PgConnection,
    database: Database,
    rows: &mut Vec<OutboxRow>,
) -> anyhow::Result<()> {
    let mut stream = sqlx::query(
        "select id, event_id, topic, key, headers, payload,
            floor(extract(epoch from created_at) * 1000)::bigint as created_ms
         from outbox.event",
    )
    .fetch(connection);
    while let Some(row) = stream.try_next().await? {
        let topic: String = row.try_get("topic")?;
        let key: Option<&[u8]> = row.try_get("key")?;
        let digest = digest(&topic, key, row.try_get("headers")?, row.try_get("payload")?);
        rows.push(OutboxRow {
            database,
            row: row.try_get("id")?,
            event_id: row.try_get("event_id")?,
            key: Topic::parse(&topic).zip(key).and_then(|(topic, key)| Key::parse(topic, key)),
            topic,
            created_ms: row.try_get("created_ms")?,
            digest,
        });
    }
    Ok(())
}

/// Reads which keys the relay knows to have been overtaken.
pub(super) async fn overtaken(
    connection: &mut PgConnection,
    database: Database,
    rows: &mut Vec<Overtaken>,
) -> anyhow::Result<()> {
    let sql = "select topic, encode(key, 'escape') as key, times from outbox.overtaken order by topic, key";
    for row in sqlx::query(sql).fetch_all(connection).await? {
        let (topic, key, times) = (row.try_get("topic")?, row.try_get("key")?, row.try_get("times")?);
        rows.push(Overtaken { database, topic, key, times });
    }
    Ok(())
}

/// Days since 1970, by the database's clock.
pub(super) async fn today(connection: &mut PgConnection) -> anyhow::Result<i64> {
    let today =
        sqlx::query_scalar::<_, i64>("select floor(extract(epoch from clock_timestamp()) / 86400)::bigint");
    Ok(today.fetch_one(connection).await?)
}

/// Reads what the group that owns this database has seen: what took effect, and its dead letters.
pub(super) async fn inbox(
    connection: &mut PgConnection,
    group: Group,
    prefix: &str,
    rows: &mut Vec<InboxRow>,
) -> anyhow::Result<()> {
    let mut stream = sqlx::query(
        "select source, id, seq, topic, partition, \"offset\" from inbox.message where consumer = $1",
    )
    .bind(format!("{prefix}{group}"))
    .fetch(connection);
    while let Some(row) = stream.try_next().await? {
        rows.push(InboxRow {
            group,
            source: row.try_get("source")?,
            id: row.try_get("id")?,
            seq: row.try_get("seq")?,
            topic: row.try_get("topic")?,
            partition: row.try_get("partition")?,
            offset: row.try_get("offset")?,
        });
    }
    Ok(())
}

//! Dead letters and holds of the group that owns a database.

use futures_util::TryStreamExt as _;
use sqlx::{PgConnection, Row as _};

use super::known;
use crate::verify::facts::{DeadLetter, Group, Hold, Key, LetterState, Topic};

/// Reads every letter, in whatever state.
pub(super) async fn letters(
    connection: &mut PgConnection,
    group: Group,
    prefix: &str,
    letters: &mut Vec<DeadLetter>,
) -> anyhow::Result<()> {
    let mut rows = sqlx::query(
        "select l.id, l.seq, l.topic, l.partition, l.\"offset\", l.key_hash,
            -- The keys of this platform are short.
            case when octet_length(l.key) < 1024 then l.key end as key, l.source, l.event_id, l.state,
            -- A copy needs room for its headers; far below the limit it surely has it.
            l.kind is not null and octet_length(l.headers) + coalesce(octet_length(l.key), 0) < 800 * 1024 as copied,
            coalesce(l.kind = 'undelivered', false) as undelivered, l.replay is not null as replaying,
            l.replays > 0 as replayed,
            array(select distinct a.action from inbox.audit as a where a.dead_letter = l.id) as audited
         from inbox.dead_letter as l where l.consumer = $1",
    )
    .bind(format!("{prefix}{group}"))
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let state: &str = row.try_get("state")?;
        let (source, id): (Option<String>, Option<String>) =
            (row.try_get("source")?, row.try_get("event_id")?);
        let (topic, key): (String, Option<&[u8]>) = (row.try_get("topic")?, row.try_get("key")?);
        letters.push(DeadLetter {
            group,
            id: row.try_get("id")?,
            seq: row.try_get("seq")?,
            about: Topic::parse(&topic).zip(key).and_then(|(topic, key)| Key::parse(topic, key)),
            topic,
            partition: row.try_get("partition")?,
            offset: row.try_get("offset")?,
            key_hash: row.try_get("key_hash")?,
            identity: source.zip(id),
            state: known(LetterState::parse(state), state, "state of a dead letter")?,
            copied: row.try_get("copied")?,
            undelivered: row.try_get("undelivered")?,
            replayed: row.try_get("replayed")?,
            replaying: row.try_get("replaying")?,
            audited: row.try_get("audited")?,
        });
    }
    Ok(())
}

/// Reads which keys wait.
pub(super) async fn holds(
    connection: &mut PgConnection,
    group: Group,
    prefix: &str,
    holds: &mut Vec<Hold>,
) -> anyhow::Result<()> {
    let rows = sqlx::query("select topic, key_hash, head from inbox.key_hold where consumer = $1")
        .bind(format!("{prefix}{group}"))
        .fetch_all(connection)
        .await?;
    for row in rows {
        let (topic, key_hash, head) = (row.try_get("topic")?, row.try_get("key_hash")?, row.try_get("head")?);
        holds.push(Hold { group, topic, key_hash, head });
    }
    Ok(())
}

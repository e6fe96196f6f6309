//! Keys whose records wait behind a dead letter.

use std::collections::HashMap;

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::Message;

/// The held keys of a batch: by logical topic and key, with the dead letter that the others wait for.
#[derive(Default)]
pub(crate) struct Held {
    keys: HashMap<(String, Vec<u8>), Uuid>,
    new: Vec<(String, Vec<u8>)>,
}

/// Finds which keys of these records are held, and keeps replays from letting them go until the end of the transaction.
pub(crate) async fn lock<'m>(
    connection: &mut PgConnection,
    consumer: &str,
    messages: impl Iterator<Item = &'m Message>,
) -> Result<Held, sqlx::Error> {
    // In a statement of its own behind the fence, whose lock may have been waited for: what was committed meanwhile counts.
    let any = "select exists (select from inbox.key_hold where consumer = $1)";
    if !sqlx::query_scalar::<_, bool>(any).bind(consumer).fetch_one(&mut *connection).await? {
        return Ok(Held::default());
    }
    let (topics, keys): (Vec<&str>, Vec<&[u8]>) =
        messages.filter_map(|message| Some((message.topic.as_str(), message.key.as_deref()?))).unzip();
    let rows = sqlx::query(include_str!("sql/lock_holds.sql"))
        .bind(consumer)
        .bind(topics)
        .bind(keys)
        .fetch_all(connection)
        .await?;
    let keys =
        rows.iter().map(|row| Ok(((row.try_get("topic")?, row.try_get("key")?), row.try_get("head")?)));
    Ok(Held { keys: keys.collect::<Result<_, sqlx::Error>>()?, new: Vec::new() })
}

impl Held {
    /// Whether the record has to wait.
    pub fn contains(&self, message: &Message) -> bool {
        let Some(key) = &message.key else { return false };
        !self.keys.is_empty() && self.keys.contains_key(&(message.topic.clone(), key.clone()))
    }

    /// Later records of its key wait behind this one. Without a key nothing waits.
    pub fn begin(&mut self, message: &Message, head: Uuid) {
        if let Some(key) = &message.key {
            let key = (message.topic.clone(), key.clone());
            self.keys.insert(key.clone(), head);
            self.new.push(key);
        }
    }

    /// Writes the new ones.
    pub async fn save(&self, connection: &mut PgConnection, consumer: &str) -> Result<(), sqlx::Error> {
        if self.new.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "insert into inbox.key_hold (consumer, topic, key_hash, head)
             select $1, topic, sha256(key), head from unnest($2::text[], $3::bytea[], $4::uuid[]) as h (topic, key, head)",
        )
        .bind(consumer)
        .bind(self.new.iter().map(|(topic, _)| topic.as_str()).collect::<Vec<_>>())
        .bind(self.new.iter().map(|(_, key)| key.as_slice()).collect::<Vec<_>>())
        .bind(self.new.iter().filter_map(|key| self.keys.get(key).copied()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
        Ok(())
    }
}

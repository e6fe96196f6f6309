//! The inbox: each record takes effect once per consumer, however often it arrives.

use std::collections::HashSet;

use sqlx::PgConnection;

use crate::{Message, error::Failure};

/// Source and id of records.
type Ids = HashSet<(String, String)>;
/// Logical topic, partition and offset of records.
type Places = HashSet<(String, i32, i64)>;

/// Enters the records in their order, also those that will be dead letters. Returns those that were not there yet; and of
/// those that cannot be entered, because their check has failed, those that are dead letters already.
pub(crate) async fn enter(
    connection: &mut PgConnection,
    consumer: &str,
    messages: &[(&Message, Result<(), Failure>)],
) -> Result<(Ids, Places), sqlx::Error> {
    let (inside, outside): (Vec<_>, Vec<_>) = messages.iter().partition(|(_, checked)| checked.is_ok());
    let inside: Vec<&Message> = inside.into_iter().map(|(message, _)| *message).collect();
    let outside: Vec<&Message> = outside.into_iter().map(|(message, _)| *message).collect();
    let entered: Vec<(String, String)> = sqlx::query_as(include_str!("sql/enter_inbox.sql"))
        .bind(consumer)
        .bind(inside.iter().map(|message| message.slot()).collect::<Vec<_>>())
        .bind(inside.iter().map(|message| message.source.as_str()).collect::<Vec<_>>())
        .bind(inside.iter().map(|message| message.id.to_string()).collect::<Vec<_>>())
        .bind(inside.iter().map(|message| message.topic.as_str()).collect::<Vec<_>>())
        .bind(inside.iter().map(|message| message.partition).collect::<Vec<_>>())
        .bind(inside.iter().map(|message| message.offset).collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await?;
    let known = if outside.is_empty() { Vec::new() } else { parked(connection, consumer, &outside).await? };
    Ok((entered.into_iter().collect(), known.into_iter().collect()))
}

async fn parked(
    connection: &mut PgConnection,
    consumer: &str,
    outside: &[&Message],
) -> Result<Vec<(String, i32, i64)>, sqlx::Error> {
    sqlx::query_as(include_str!("sql/known_places.sql"))
        .bind(consumer)
        .bind(outside.iter().map(|message| message.topic.as_str()).collect::<Vec<_>>())
        .bind(outside.iter().map(|message| message.partition).collect::<Vec<_>>())
        .bind(outside.iter().map(|message| message.offset).collect::<Vec<_>>())
        .fetch_all(connection)
        .await
}

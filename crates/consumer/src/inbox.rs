//! The inbox: each record takes effect once per consumer, however often it arrives.

use std::collections::HashSet;

use sqlx::PgConnection;

use crate::{Message, buffer::Read, error::Failure};

/// Enters the records in their order, also those that will be dead letters, and says of each whether it is new: it was not
/// there yet, nor earlier in the batch. What cannot be entered, because its check has failed, is new where it is no dead
/// letter already.
pub(crate) async fn enter(
    connection: &mut PgConnection,
    consumer: &str,
    reads: &[Read],
    checks: &[Result<(), Failure>],
) -> Result<Vec<bool>, sqlx::Error> {
    let checked = || reads.iter().map(|read| &read.message).zip(checks);
    let inside: Vec<_> = checked().filter_map(|(message, check)| check.is_ok().then_some(message)).collect();
    let outside: Vec<_> =
        checked().filter_map(|(message, check)| check.is_err().then_some(message)).collect();
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
    let parked = if outside.is_empty() { Vec::new() } else { parked(connection, consumer, &outside).await? };
    let (mut entered, parked) = (HashSet::<_>::from_iter(entered), HashSet::<_>::from_iter(parked));
    let is_new = |(message, check): (&Message, &Result<(), Failure>)| match check {
        // Removing it makes a second occurrence within the batch a repeat.
        Ok(()) => entered.remove(&(message.source.clone(), message.id.to_string())),
        Err(_) => !parked.contains(&(message.topic.clone(), message.partition, message.offset)),
    };
    Ok(checked().map(is_new).collect())
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

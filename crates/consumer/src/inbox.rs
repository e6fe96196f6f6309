//! The inbox: each record takes effect once per consumer, however often it arrives.

use std::collections::HashSet;

use sqlx::PgConnection;

use crate::Message;

/// Enters the records in their order, also those that will be dead letters; the result holds `(source, id)` of those that were not there yet.
pub(crate) async fn enter(
    connection: &mut PgConnection,
    consumer: &str,
    messages: &[&Message],
) -> Result<HashSet<(String, String)>, sqlx::Error> {
    // What has no identity cannot be known again by it.
    let messages: Vec<&Message> =
        messages.iter().copied().filter(|message| message.is_identified()).collect();
    let slots: Vec<i16> = messages.iter().map(|message| message.slot()).collect();
    let sources: Vec<&str> = messages.iter().map(|message| message.source.as_str()).collect();
    let ids: Vec<String> = messages.iter().map(|message| message.id.to_string()).collect();
    let topics: Vec<&str> = messages.iter().map(|message| message.topic.as_str()).collect();
    let partitions: Vec<i32> = messages.iter().map(|message| message.partition).collect();
    let offsets: Vec<i64> = messages.iter().map(|message| message.offset).collect();
    let entered: Vec<(String, String)> = sqlx::query_as(include_str!("sql/enter_inbox.sql"))
        .bind(consumer)
        .bind(slots)
        .bind(sources)
        .bind(ids)
        .bind(topics)
        .bind(partitions)
        .bind(offsets)
        .fetch_all(connection)
        .await?;
    Ok(entered.into_iter().collect())
}

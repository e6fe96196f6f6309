//! `outbox-relay status`: what waits in each outbox, read from the databases, whether a relay runs or not.

use std::io::Write;

use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, Row as _};

use crate::{
    config::{Config, Source},
    ring,
    session::Session,
};

#[derive(Debug, Serialize)]
struct Outbox {
    outbox: String,
    #[serde(flatten)]
    found: Found,
}

/// A topic that waits while all others flow.
#[derive(Debug, Serialize, Deserialize)]
struct Lane {
    topic: String,
    reason: String,
    since: String,
}

/// A key whose events wait behind one that was refused.
#[derive(Debug, Serialize, Deserialize)]
struct Hold {
    topic: String,
    key: String,
    reason: String,
    since: String,
    released: bool,
    parked: i64,
}

/// A key of which Kafka took a later event before an earlier one.
#[derive(Debug, Serialize, Deserialize)]
struct Overtaken {
    topic: String,
    key: String,
    times: i64,
    since: String,
    last: String,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Found {
    Read {
        unpublished_rows: i64,
        oldest_unpublished_seconds: f64,
        epoch: i64,
        held: bool,
        system_identifier: Option<i64>,
        kafka_cluster_id: Option<String>,
        /// Whether its cursor speaks of another PostgreSQL cluster's transactions: nothing is appended or published.
        needs_rebase: bool,
        /// Daily leaves with rows, of eight.
        ring_leaves_used: i64,
        /// Leaves that were due to be truncated.
        ring_leaves_overdue: i64,
        /// Events that were refused, and those that wait behind them.
        parked: i64,
        lanes: Vec<Lane>,
        /// The first hundred, the oldest first.
        holds: Vec<Hold>,
        /// The last hundred, the newest first.
        overtaken: Vec<Overtaken>,
    },
    Unread {
        error: String,
    },
}

/// Writes the state of every outbox; `false` when one could not be read.
pub async fn status(config: &Config, json: bool, out: &mut impl Write) -> anyhow::Result<bool> {
    let mut outboxes = Vec::new();
    for source in config.sources()? {
        let found = read(&source).await.unwrap_or_else(|error| Found::Unread { error: format!("{error:#}") });
        outboxes.push(Outbox { outbox: source.name, found });
    }
    if json {
        serde_json::to_writer_pretty(&mut *out, &outboxes)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{:<16} {:>12} {:>12}  LEASE", "OUTBOX", "UNPUBLISHED", "OLDEST")?;
        for Outbox { outbox, found } in &outboxes {
            match found {
                Found::Read {
                    unpublished_rows,
                    oldest_unpublished_seconds,
                    epoch,
                    held,
                    needs_rebase,
                    ring_leaves_used,
                    ring_leaves_overdue,
                    lanes,
                    holds,
                    overtaken,
                    ..
                } => {
                    let lease = if *held { "held" } else { "free" };
                    let oldest = format!("{oldest_unpublished_seconds:.1} s");
                    writeln!(
                        out,
                        "{outbox:<16} {unpublished_rows:>12} {oldest:>12}  {lease}, epoch {epoch}"
                    )?;
                    if *needs_rebase {
                        writeln!(
                            out,
                            "  made in another PostgreSQL cluster: nothing is appended or published until \
                             `outbox-relay rebase`"
                        )?;
                    }
                    if *ring_leaves_overdue > 0 {
                        writeln!(
                            out,
                            "  {ring_leaves_used} of 8 daily leaves in use, {ring_leaves_overdue} of them not cleared in \
                             time: they wait for unpublished events, for a topic below, or for a session that holds a lock"
                        )?;
                    }
                    for Lane { topic, reason, since } in lanes {
                        writeln!(out, "  topic {topic} waits since {since}: {reason}")?;
                    }
                    for Hold { topic, key, reason, since, released, parked } in holds {
                        let word = if *released { "is released" } else { "is held" };
                        writeln!(
                            out,
                            "  key {key} of {topic} {word} since {since}, {parked} events parked: {reason}"
                        )?;
                    }
                    for Overtaken { topic, key, times, last, .. } in overtaken {
                        writeln!(
                            out,
                            "  key {key} of {topic} was overtaken by a later event of its own, {times} times, last at \
                             {last}; once its readers are mended: `outbox-relay release --topic {topic} --key {key}`"
                        )?;
                    }
                }
                Found::Unread { error } => writeln!(out, "{outbox:<16} {:>12} {:>12}  {error}", "?", "?")?,
            }
        }
    }
    Ok(outboxes.iter().all(|outbox| matches!(outbox.found, Found::Read { .. })))
}

async fn read(source: &Source) -> anyhow::Result<Found> {
    let Session { mut connection, system_identifier, .. } = Session::open(source).await?;
    let waiting =
        sqlx::query(include_str!("sql/unpublished.sql")).bind(i64::MAX).fetch_one(&mut connection).await?;
    let cursor = sqlx::query(include_str!("sql/status.sql")).fetch_one(&mut connection).await?;
    let ring = ring::look(&mut connection).await?;
    connection.close().await?;
    let stored: Option<i64> = cursor.try_get("system_identifier")?;
    Ok(Found::Read {
        unpublished_rows: waiting.try_get("rows")?,
        oldest_unpublished_seconds: waiting.try_get("oldest")?,
        epoch: cursor.try_get("epoch")?,
        held: cursor.try_get("held")?,
        system_identifier: stored,
        kafka_cluster_id: cursor.try_get("kafka_cluster_id")?,
        needs_rebase: cursor.try_get("ahead")? || stored.is_some_and(|stored| stored != system_identifier),
        ring_leaves_used: ring.used,
        ring_leaves_overdue: ring.overdue,
        parked: cursor.try_get("parked")?,
        lanes: serde_json::from_str(cursor.try_get("lanes")?)?,
        holds: serde_json::from_str(cursor.try_get("holds")?)?,
        overtaken: serde_json::from_str(cursor.try_get("overtaken")?)?,
    })
}

//! `outbox-relay status`: what waits in each outbox, read from the databases, whether a relay runs or not.

use std::io::Write;

use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, Row as _};

use crate::{
    config::{Config, Source},
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

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Found {
    Read {
        unpublished_rows: i64,
        oldest_unpublished_seconds: f64,
        epoch: i64,
        held: bool,
        system_identifier: Option<i64>,
        /// Events that were refused, and those that wait behind them.
        parked: i64,
        lanes: Vec<Lane>,
        /// The first hundred, the oldest first.
        holds: Vec<Hold>,
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
                    lanes,
                    holds,
                    ..
                } => {
                    let lease = if *held { "held" } else { "free" };
                    let oldest = format!("{oldest_unpublished_seconds:.1} s");
                    writeln!(
                        out,
                        "{outbox:<16} {unpublished_rows:>12} {oldest:>12}  {lease}, epoch {epoch}"
                    )?;
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
                }
                Found::Unread { error } => writeln!(out, "{outbox:<16} {:>12} {:>12}  {error}", "?", "?")?,
            }
        }
    }
    Ok(outboxes.iter().all(|outbox| matches!(outbox.found, Found::Read { .. })))
}

async fn read(source: &Source) -> anyhow::Result<Found> {
    let mut connection = Session::open(source).await?.connection;
    let waiting =
        sqlx::query(include_str!("sql/unpublished.sql")).bind(i64::MAX).fetch_one(&mut connection).await?;
    let cursor = sqlx::query(include_str!("sql/status.sql")).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(Found::Read {
        unpublished_rows: waiting.try_get("rows")?,
        oldest_unpublished_seconds: waiting.try_get("oldest")?,
        epoch: cursor.try_get("epoch")?,
        held: cursor.try_get("held")?,
        system_identifier: cursor.try_get("system_identifier")?,
        parked: cursor.try_get("parked")?,
        lanes: serde_json::from_str(cursor.try_get("lanes")?)?,
        holds: serde_json::from_str(cursor.try_get("holds")?)?,
    })
}

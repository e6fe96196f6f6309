//! `outbox-relay release`: an operator lets a held key go on.

use std::io::Write;

use anyhow::{Context as _, bail};
use sqlx::{Connection as _, Row as _};

use crate::{config::Config, session::Session};

/// What becomes of the event that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is dropped, if the dead-letter topic has a copy.
    DropCopied,
    /// It is dropped, copy or not.
    Discard,
    /// It is tried again, first.
    Retry,
}

impl Refused {
    /// From `--retry` and `--discard`.
    #[must_use]
    pub fn from_flags(retry: bool, discard: bool) -> Self {
        match (retry, discard) {
            (true, _) => Self::Retry,
            (false, true) => Self::Discard,
            (false, false) => Self::DropCopied,
        }
    }
}

/// Releases the key in the outbox that holds it. The relay publishes what waits, in order, and lifts the hold then;
/// `false` when no outbox holds the key.
///
/// # Errors
/// When a database cannot be read, or the refused event has no copy and may not be dropped.
pub async fn release(
    config: &Config,
    topic: &str,
    key: &str,
    refused: Refused,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    for source in config.sources()? {
        let name = &source.name;
        let mut connection =
            Session::open(&source).await.with_context(|| format!("outbox {name}"))?.connection;
        let mut transaction = connection.begin().await?;
        // Locked first, so that the relay does not lift or renew it meanwhile.
        let held = sqlx::query(include_str!("sql/release_hold.sql"))
            .bind(topic)
            .bind(key.as_bytes())
            .execute(&mut *transaction)
            .await?;
        let forgotten = sqlx::query(include_str!("sql/forget_overtaken.sql"))
            .bind(topic)
            .bind(key.as_bytes())
            .execute(&mut *transaction)
            .await?;
        if forgotten.rows_affected() > 0 {
            writeln!(out, "{name}: that the key was overtaken is forgotten")?;
        }
        if held.rows_affected() == 0 {
            if forgotten.rows_affected() > 0 {
                transaction.commit().await?;
                return Ok(true);
            }
            continue;
        }
        let found = sqlx::query(include_str!("sql/refused.sql"))
            .bind(topic)
            .bind(key.as_bytes())
            .fetch_one(&mut *transaction)
            .await?;
        let (heads, uncopied, waiting): (Vec<i64>, i64, i64) =
            (found.try_get("heads")?, found.try_get("uncopied")?, found.try_get("waiting")?);
        match refused {
            Refused::DropCopied if uncopied > 0 => bail!(
                "the refused event has no copy in {topic}.outbox.dlq: use --retry, or --discard to lose it for good"
            ),
            Refused::Retry => {
                writeln!(out, "{name}: the refused event is tried again, {waiting} wait behind it")?
            }
            _ => {
                sqlx::query(include_str!("sql/unpark.sql")).bind(&heads).execute(&mut *transaction).await?;
                writeln!(
                    out,
                    "{name}: the refused event is dropped, {waiting} that waited are published now"
                )?;
            }
        }
        transaction.commit().await?;
        return Ok(true);
    }
    writeln!(out, "no outbox holds this key; `outbox-relay status` lists those that are held")?;
    Ok(false)
}

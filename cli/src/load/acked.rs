//! The record of a run: which orders the platform has promised to keep. `verify` holds it against the databases.

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use sqlx::PgPool;
use time::{OffsetDateTime, serde::rfc3339};
use uuid::Uuid;

use super::traffic::TokenKind;
use crate::simulate::ledger::{Durability, Ledger};

/// First line of `acked/<run>.ndjson`.
#[derive(Serialize)]
struct Head<'a> {
    run: &'a str,
    /// Of the database cluster: `verify` reads the runs against the cluster it audits.
    system_identifier: i64,
    #[serde(with = "rfc3339")]
    started_at: OffsetDateTime,
}

/// Every further line: an order that the platform has promised to keep.
#[derive(Serialize)]
pub(super) struct Acknowledged<'a> {
    pub(super) order_id: Uuid,
    pub(super) request_id: &'a str,
    pub(super) customer_id: &'a str,
    pub(super) total_minor: i64,
    pub(super) currency: &'a str,
    pub(super) token_kind: TokenKind,
    #[serde(with = "rfc3339")]
    pub(super) at: OffsetDateTime,
}

/// Starts the record of a run. Its lines are written at once but not synced: a disk that the load itself keeps busy
/// would slow down what is measured.
pub(super) async fn create(path: &Path, run: &str, system_identifier: i64) -> anyhow::Result<Ledger> {
    let acked = Ledger::open(path, Durability::Written, |_: serde_json::Value| {})?;
    acked.append(&Head { run, system_identifier, started_at: OffsetDateTime::now_utc() }).await?;
    Ok(acked)
}

/// The identifier of the cluster; from the relay's cursor where the role may not ask the server.
pub(super) async fn system_identifier(pool: &PgPool) -> anyhow::Result<i64> {
    let asked = sqlx::query_scalar("select system_identifier from pg_control_system()").fetch_one(pool).await;
    match asked {
        Ok(identifier) => Ok(identifier),
        Err(_) => sqlx::query_scalar("select system_identifier from outbox.cursor where name = 'main'")
            .fetch_one(pool)
            .await
            .context("the order database did not tell which cluster it is; is the platform up?"),
    }
}

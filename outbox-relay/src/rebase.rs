//! `outbox-relay rebase`: an operator lets an outbox go on in another PostgreSQL cluster, or with another Kafka cluster.
//!
//! After a restore, a copy or an upgrade by `pg_upgrade` transaction ids start anew or belong to another counter. Until
//! this has run services cannot append and the relay does not publish, so what is in the outbox comes from before and the
//! cursor says which of it was published: it is the rest that is published, in order, with new transaction ids.

use std::{io::Write, time::Duration};

use anyhow::Context as _;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};
use sqlx::Row as _;

use crate::{config::Config, lease, session::Session};

const WITHIN: Duration = Duration::from_secs(10);

/// Makes every outbox this PostgreSQL cluster's and this Kafka cluster's; with `dry_run` it only says which are not.
/// `false` when there was nothing to do.
///
/// # Errors
/// When a database or Kafka does not answer.
pub async fn rebase(config: &Config, dry_run: bool, out: &mut impl Write) -> anyhow::Result<bool> {
    let asked = config.clone();
    let kafka = tokio::task::spawn_blocking(move || kafka_cluster(&asked)).await??;
    let mut changed = false;
    for source in config.sources()? {
        let name = &source.name;
        let mut session = Session::open(&source).await.with_context(|| format!("outbox {name}"))?;
        let row =
            sqlx::query(include_str!("sql/observe.sql")).fetch_optional(&mut session.connection).await?;
        let row = row.ok_or(lease::Error::NoCursor).with_context(|| format!("outbox {name}"))?;
        let (stored, ahead): (Option<i64>, bool) = (row.try_get("system_identifier")?, row.try_get("ahead")?);
        let found = session.system_identifier;
        if stored.is_some_and(|stored| stored != found) || ahead {
            changed = true;
            let stored = stored.map_or_else(|| "unknown".to_owned(), |stored| stored.to_string());
            writeln!(out, "{name}: from PostgreSQL cluster {stored} to {found}")?;
            if !dry_run {
                // All of the ring in one statement, which is no poll.
                let settings = "set statement_timeout = 0; set enable_seqscan = on; set enable_hashjoin = on";
                sqlx::raw_sql(settings).execute(&mut session.connection).await?;
                let done = sqlx::query("select unpublished, published from outbox.rebase()");
                let done = done.fetch_one(&mut session.connection).await?;
                let (unpublished, published): (Option<i64>, Option<i64>) =
                    (done.try_get("unpublished")?, done.try_get("published")?);
                writeln!(
                    out,
                    "{name}: {} events are published now, {} that were published before are gone",
                    unpublished.unwrap_or(0),
                    published.unwrap_or(0)
                )?;
            }
        }
        let stored: Option<String> = row.try_get("kafka_cluster_id")?;
        if let Some(stored) = stored.filter(|stored| *stored != kafka) {
            changed = true;
            writeln!(
                out,
                "{name}: from Kafka cluster {stored} to {kafka}; what was published there is not published again"
            )?;
            if !dry_run {
                let moved = sqlx::query(include_str!("sql/move_kafka.sql")).bind(&kafka);
                moved.execute(&mut session.connection).await?;
            }
        }
    }
    if !changed {
        writeln!(out, "every outbox belongs to its PostgreSQL and to this Kafka already")?;
    }
    Ok(changed)
}

fn kafka_cluster(config: &Config) -> anyhow::Result<String> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &config.kafka).create()?;
    let cluster = client.client().fetch_cluster_id(WITHIN);
    cluster.with_context(|| format!("Kafka does not answer at {}", config.kafka))
}

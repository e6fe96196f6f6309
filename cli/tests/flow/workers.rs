//! Workers of one service share its partitions, and take over those of one that is gone.

use std::io::Write as _;

use sqlx::PgPool;
use testkit::{Part, until};
use tokio::time::Instant;

use crate::client::{SETTLE, place, platform};

/// Of every topic.
const PARTITIONS: i64 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_worker_gets_its_share_and_what_a_killed_one_had_is_taken_over() -> anyhow::Result<()> {
    let mut platform = platform().await?;
    platform.expect_log("another worker");
    let billing = platform.billing.superuser().await?;
    let orders = async {
        loop {
            place(&platform, "tok_ok").await?;
        }
    };
    let watched = async {
        owned(&billing, "one worker has every partition", "now() - interval '1 minute'", 1).await?;
        let started = Instant::now();
        let second = platform.worker(Part::Billing)?;
        second.ready().await?;
        let ready = started.elapsed();
        owned(&billing, "two workers share", "now() - interval '2 seconds'", 2).await?;
        let shared = started.elapsed();
        let killed: String = sqlx::query_scalar("select clock_timestamp()::text").fetch_one(&billing).await?;
        let started = Instant::now();
        second.kill()?;
        owned(&billing, "one has all again", &format!("'{killed}'::timestamptz"), 1).await?;
        writeln!(
            std::io::stderr(),
            "workers: a second one was ready after {} ms and had its share after {} ms; what it had when it was \
             killed was taken over after {} ms",
            ready.as_millis(),
            shared.as_millis(),
            started.elapsed().as_millis()
        )?;
        anyhow::Ok(())
    };
    tokio::select! {
        placed = orders => placed,
        watched = watched => watched,
    }?;
    billing.close().await;
    Ok(())
}

/// Waits until every partition has had a batch since a moment, and so many workers have made them.
async fn owned(billing: &PgPool, what: &str, since: &str, owners: i64) -> anyhow::Result<()> {
    let sql = format!("select count(*), count(distinct owner) from inbox.fence where updated_at > {since}");
    until(what, SETTLE, || async {
        let found: (i64, i64) = sqlx::query_as(sqlx::AssertSqlSafe(sql.as_str())).fetch_one(billing).await?;
        Ok((found == (PARTITIONS, owners)).then_some(()))
    })
    .await
}

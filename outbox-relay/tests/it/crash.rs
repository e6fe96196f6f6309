//! A crash of PostgreSQL takes back transaction ids that nothing durable has mentioned, and hands them out again. A
//! cursor that was only in memory has seen them already.

use std::time::Duration;

use outbox::UnitOfWork;
use sqlx::{Connection as _, PgConnection, PgPool};
use testkit::{Dedicated, until};
use uuid::Uuid;

use crate::{scene::Scene, writers::event};

const WITHIN: Duration = Duration::from_secs(30);
/// Transactions that are rolled back before each crash.
const ABORTED: i64 = 50;
/// Events after each crash: more than ids can be taken back.
const AFTER: i64 = 100;
const CRASHES: i64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_ids_that_a_crash_takes_back_are_not_taken_for_seen() -> anyhow::Result<()> {
    let mut postgres = Dedicated::postgres().await?;
    let scene = Scene::set_on(postgres.with_shared().await?).await?;
    // What is not flushed by a commit stays in memory.
    for setting in ["alter system set wal_writer_delay = '10s'", "select pg_reload_conf()"] {
        sqlx::raw_sql(setting).execute(&scene.superuser).await?;
    }
    let mut relay = scene.relay("relay")?;
    relay.says("publishing").await?;
    let app = PgPool::connect_with(scene.writer()?).await?;
    let (mut last, mut taken_back) = (0, 0);
    for _ in 0..CRASHES {
        let before = vanish(&scene).await?;
        postgres.kill().await?;
        postgres.start().await?;
        let next = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
        let after: i64 = sqlx::query_scalar(next).fetch_one(&scene.superuser).await?;
        taken_back = taken_back.max(before - after);
        for sequence in last + 1..=last + AFTER {
            let event = event(Uuid::now_v7(), "alpha", "account-1", sequence, 0);
            UnitOfWork::begin(&app).await?.commit(vec![event]).await?;
        }
        last += AFTER;
    }
    anyhow::ensure!(taken_back > 0, "no crash has taken transaction ids back");
    scene.drained(WITHIN).await?;
    let mut records = scene.records()?;
    let mut arrived: Vec<i64> = Vec::new();
    for record in records.read_to_the_end()?.iter().filter(|record| record.topic == "alpha") {
        let sequence = record.headers.text("ce_sequence").and_then(|text| text.parse().ok()).unwrap_or(0);
        if !arrived.contains(&sequence) {
            arrived.push(sequence);
        }
    }
    assert_eq!(arrived, (1..=last).collect::<Vec<_>>(), "{taken_back} ids were taken back");
    assert!(relay.runs()?, "no other process was needed");
    scene.end()
}

/// Ids that are used for nothing, and an event that is not durable, which the outbox crate would not let happen. Returns
/// the id up to which the relay has seen it all.
async fn vanish(scene: &Scene) -> anyhow::Result<i64> {
    let mut writer = PgConnection::connect_with(&scene.writer()?).await?;
    for _ in 0..ABORTED {
        sqlx::raw_sql("begin; select pg_current_xact_id(); rollback").execute(&mut writer).await?;
    }
    let append = "set synchronous_commit = off;
        insert into outbox.event (event_id, topic, key, headers) values (gen_random_uuid(), 'beta', 'x', '')";
    sqlx::raw_sql(append).execute(&mut writer).await?;
    let seen = "select pg_snapshot_xmax(snap)::text::bigint from outbox.cursor, outbox.event
        where topic = 'beta' and pg_visible_in_snapshot(xid, snap)";
    until("it is published", WITHIN, || async {
        Ok(sqlx::query_scalar(seen).fetch_optional(&scene.superuser).await?)
    })
    .await
}

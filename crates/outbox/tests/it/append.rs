//! What `commit` promises: order, atomicity, the limit, durability, the wake-up.

use std::time::Duration;

use outbox::{Error, Event, Headers, MAX_EVENT_BYTES, UnitOfWork};
use sqlx::postgres::PgListener;
use tokio::time::timeout;
use uuid::Uuid;

use crate::scene::Scene;

const WITHIN: Duration = Duration::from_secs(10);

fn event(key: &str, payload: impl Into<Vec<u8>>) -> Event {
    Event {
        id: Uuid::now_v7(),
        topic: "t".into(),
        key: Some(key.into()),
        aggregate_id: Some(key.to_owned()),
        sequence: Some(1),
        headers: Headers::default(),
        payload: Some(payload.into()),
        partition: None,
    }
}

#[tokio::test]
async fn a_batch_keeps_its_order() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let numbers: Vec<u32> = (0..1_000).collect();
    let events = numbers.iter().map(|number| event("k", number.to_be_bytes())).collect();
    UnitOfWork::begin(&scene.app).await?.commit(events).await?;
    let found: Vec<Vec<u8>> = scene.events().await?.into_iter().map(|(_, payload)| payload).collect();
    let expected: Vec<Vec<u8>> = numbers.iter().map(|number| number.to_be_bytes().to_vec()).collect();
    assert_eq!(found, expected);
    Ok(())
}

#[tokio::test]
async fn what_is_not_committed_is_not_there() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let mut work = UnitOfWork::begin(&scene.app).await?;
    sqlx::query("select 1").execute(&mut *work).await?;
    drop(work);
    let too_large = event("k", vec![0; MAX_EVENT_BYTES]);
    let size = too_large.size();
    let refused = UnitOfWork::begin(&scene.app).await?.commit(vec![event("k", "small"), too_large]).await;
    let Err(Error::TooLarge { size: said, limit, .. }) = refused else { anyhow::bail!("{refused:?}") };
    assert_eq!((said, limit), (size, MAX_EVENT_BYTES));
    assert!(scene.events().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_event_is_durable_where_the_service_does_not_wait_for_its_commits() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for (set, expected) in [("off", "on"), ("remote_apply", "remote_apply")] {
        let mut work = UnitOfWork::begin(&scene.app).await?;
        sqlx::query("select set_config('synchronous_commit', $1, true)")
            .bind(set)
            .execute(&mut *work)
            .await?;
        // Seen by a trigger, which runs inside the append.
        sqlx::raw_sql(
            "drop table if exists seen; create table seen (setting text); grant insert on seen to public;
             create or replace function note() returns trigger language plpgsql as
             $$ begin insert into seen values (current_setting('synchronous_commit')); return null; end $$;
             create or replace trigger note after insert on outbox.event for each row execute function note()",
        )
        .execute(&scene.owner)
        .await?;
        work.commit(vec![event("k", "v")]).await?;
        let seen: Vec<String> =
            sqlx::query_scalar("select setting from seen").fetch_all(&scene.owner).await?;
        assert_eq!(seen, [expected], "{set}");
    }
    Ok(())
}

#[tokio::test]
async fn writers_of_a_key_without_a_row_wait_for_each_other() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let mut first = UnitOfWork::begin(&scene.app).await?;
    first.lock(&["b", "a"]).await?;
    let pool = scene.app.clone();
    let second = tokio::spawn(async move {
        UnitOfWork::begin(&pool).await?.commit_locked(vec![event("a", "second")]).await
    });
    // It waits in the database, for this lock.
    testkit::until("the second waits", WITHIN, || async {
        let waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted
                       and database = (select oid from pg_database where datname = current_database())";
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&scene.owner).await?;
        Ok((waiting == 1).then_some(()))
    })
    .await?;
    // Another key is not kept waiting.
    UnitOfWork::begin(&scene.app).await?.commit_locked(vec![event("c", "other")]).await?;
    first.commit(vec![event("a", "first")]).await?;
    timeout(WITHIN, second).await???;
    let payloads: Vec<Vec<u8>> = scene.events().await?.into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(payloads, [b"other".to_vec(), b"first".to_vec(), b"second".to_vec()]);
    Ok(())
}

#[tokio::test]
async fn the_first_append_after_a_quiet_spell_wakes_the_relay() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let mut listener = PgListener::connect_with(&scene.owner).await?;
    listener.listen("outbox").await?;
    // Other tests of this process commit too, and the spell is the process's: so it is tried until one is the first.
    let started = tokio::time::Instant::now();
    while started.elapsed() < WITHIN {
        UnitOfWork::begin(&scene.app).await?.commit(vec![event("k", "v")]).await?;
        if timeout(Duration::from_millis(100), listener.recv()).await.is_ok() {
            return Ok(());
        }
    }
    anyhow::bail!("no append has notified")
}

#[tokio::test]
async fn a_busy_writer_notifies_nobody() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let mut listener = PgListener::connect_with(&scene.owner).await?;
    listener.listen("outbox").await?;
    let commits = 200;
    for _ in 0..commits {
        UnitOfWork::begin(&scene.app).await?.commit(vec![event("k", "v")]).await?;
    }
    // Its own notification marks the end; a pause of this process may have let a few more through.
    sqlx::query("select pg_notify('outbox', 'end')").execute(&scene.owner).await?;
    let mut heard = 0;
    while timeout(WITHIN, listener.recv()).await??.payload() != "end" {
        heard += 1;
    }
    assert!(heard < commits / 4, "{heard} of {commits} commits notified");
    Ok(())
}

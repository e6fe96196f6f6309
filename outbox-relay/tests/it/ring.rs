//! Eight days, while writers commit across every midnight: a leaf is cleared once it is drained, and never before.

use std::time::Duration;

use outbox::UnitOfWork;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use testkit::until;
use uuid::Uuid;

use crate::{
    records::Records,
    refusals::{self, append, arrive, operator},
    scene::Scene,
    writers::{Load, Writers, event},
};

const LOAD: Load = Load { seed: 8, quick: 3, slow: 2, payload: 100 };
const WITHIN: Duration = Duration::from_secs(20);

/// Whatever the clock says, it is this day.
async fn set_day(scene: &Scene, day: i16) -> anyhow::Result<()> {
    let slot = format!(
        "create or replace function outbox.slot() returns smallint language sql volatile
         set search_path = pg_catalog return {day}::smallint",
        day = day.rem_euclid(8)
    );
    Ok(sqlx::raw_sql(AssertSqlSafe(slot)).execute(&scene.superuser).await.map(drop)?)
}

async fn rows(scene: &Scene, leaf: i16) -> anyhow::Result<i64> {
    let count = format!("select count(*) from outbox.event_{}", leaf.rem_euclid(8));
    Ok(sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&scene.superuser).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_days_with_writers_across_every_midnight_lose_nothing() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    set_day(&scene, 0).await?;
    let relay = scene.relay("relay")?;
    let writers = Writers::start(&scene, LOAD)?;
    // Back and forth, as a clock that is corrected around midnight.
    for day in [1, 0, 1, 2, 3, 2, 3, 4, 5, 6, 7, 8, 7, 8, 9] {
        set_day(&scene, day).await?;
        until("the day has events", WITHIN, || async { Ok((rows(&scene, day).await? > 0).then_some(())) })
            .await?;
        // What is two days and more away is cleared, though writers that began there may still be open.
        until("old days are cleared", WITHIN, || async {
            for old in day + 2..=day + 6 {
                if rows(&scene, old).await? > 0 {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .await?;
    }
    let tally = writers.stop().await?;
    scene.drained(WITHIN).await?;
    scene.judge(&tally, LOAD.payload).await?;
    assert_eq!(relay.metric("outbox_ring_leaves_overdue").await?, 0.0);
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undrained_leaf_and_a_locked_one_are_left_alone_and_counted() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let app = PgPool::connect_with(scene.writer()?).await?;
    set_day(&scene, 0).await?;
    let relay = scene.relay("relay")?;
    UnitOfWork::begin(&app).await?.commit(vec![event(Uuid::now_v7(), "alpha", "account-1", 1, 10)]).await?;
    scene.drained(WITHIN).await?;
    // Somebody holds on to the leaf.
    let mut reading = scene.superuser.begin().await?;
    sqlx::query("select count(*) from outbox.event_0").execute(&mut *reading).await?;
    set_day(&scene, 4).await?;
    let overdue = |expected: f64| {
        let relay = &relay;
        until("the metric follows", WITHIN, move || async move {
            Ok((relay.metric("outbox_ring_leaves_overdue").await? == expected).then_some(()))
        })
    };
    overdue(1.0).await?;
    assert_eq!(rows(&scene, 0).await?, 1);
    // The relay publishes all the same.
    UnitOfWork::begin(&app).await?.commit(vec![event(Uuid::now_v7(), "alpha", "account-1", 2, 10)]).await?;
    scene.drained(WITHIN).await?;
    reading.rollback().await?;
    overdue(0.0).await?;
    assert_eq!((rows(&scene, 0).await?, rows(&scene, 4).await?), (0, 1));

    // A writer that is still open in an old leaf, and its event that nobody has seen.
    let mut writer = PgConnection::connect(&scene.url("relay_tests_app")).await?;
    let mut open = writer.begin().await?;
    sqlx::query("insert into outbox.event (event_id, topic, key, headers) values (gen_random_uuid(), 'alpha', 'x', '')")
        .execute(&mut *open)
        .await?;
    set_day(&scene, 8).await?;
    overdue(1.0).await?;
    open.commit().await?;
    scene.drained(WITHIN).await?;
    overdue(0.0).await?;
    assert_eq!(relay.metric("outbox_published_total").await?, 3.0, "the late event was published before");
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_ring_mixes_weeks_loses_nothing_and_says_so() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let app = PgPool::connect_with(scene.writer()?).await?;
    set_day(&scene, 0).await?;
    let relay = scene.relay("relay")?;
    let days: Vec<i64> = (1..=12).collect();
    for day in &days {
        set_day(&scene, i16::try_from(*day)?).await?;
        let events = ["absent", "alpha"].map(|topic| refusals::event(topic, "k", *day, Vec::new()));
        append(&app, events.to_vec()).await?;
        scene.drained(WITHIN).await?;
    }
    // The topic that does not exist keeps every leaf; all others flow.
    arrive(&mut scene.records()?, "alpha", "k", &days).await?;
    until("the ring is full", WITHIN, || async {
        let used = relay.metric("outbox_ring_leaves_used").await?;
        Ok((used == 8.0 && relay.metric("outbox_ring_leaves_overdue").await? == 5.0).then_some(()))
    })
    .await?;
    let (_, said) = operator(&scene, &["status"])?;
    assert!(said.contains("8 of 8 daily leaves in use, 5 of them not cleared in time"), "{said}");
    scene.create_topic("absent", 1, &[]).await?;
    let mut absent = Records::of(&scene.servers.kafka, &scene.prefix, &[("absent", 1)])?;
    arrive(&mut absent, "absent", "k", &days).await?;
    until("the ring is cleared", WITHIN, || async {
        Ok((relay.metric("outbox_ring_leaves_used").await? <= 3.0).then_some(()))
    })
    .await?;
    assert_eq!(relay.metric("outbox_ring_leaves_overdue").await?, 0.0);
    scene.end()
}

//! An outbox that finds itself in another PostgreSQL cluster, or before another Kafka: nothing is appended or published
//! until an operator has run `outbox-relay rebase`, and nothing is lost then.

use std::time::Duration;

use outbox::UnitOfWork;
use sqlx::PgPool;
use testkit::{Dedicated, until};
use uuid::Uuid;

use crate::{
    refusals::{append, arrive, event, operator},
    scene::{Scene, Topics},
    writers::{self, Load, Writers},
};

const WITHIN: Duration = Duration::from_secs(30);
const LOAD: Load = Load { seed: 5, quick: 4, slow: 2, payload: 100 };
/// The last one does not exist at first.
const TOPICS: Topics = &[("alpha", 6), ("beta", 3), ("late", 2)];
const REFUSED: &str = "made in another PostgreSQL cluster";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_outbox_goes_on_after_a_rebase_and_loses_nothing() -> anyhow::Result<()> {
    let mut scene = Scene::set().await?;
    let relay = scene.relay("relay")?;
    let writers = Writers::start_with(&scene, LOAD, TOPICS)?;
    relay.says("late waits").await?;
    relay.publishes(200.0, WITHIN).await?;
    relay.kill()?;
    let (before, tally) = (writers.tally().committed(), writers.tally());
    until("more is committed", WITHIN, || async { Ok((tally.committed() > before + 100).then_some(())) })
        .await?;
    let first = writers.stop().await?;

    let other = Dedicated::postgres().await?;
    scene.restore_to(other.with_shared().await?).await?;
    let app = PgPool::connect_with(scene.writer()?).await?;
    let event = writers::event(Uuid::now_v7(), "alpha", "account-1", 1, 0);
    let refused = UnitOfWork::begin(&app).await?.commit(vec![event]).await.map_err(anyhow::Error::from);
    let refused = format!("{:#}", refused.expect_err("a service appends before the rebase"));
    assert!(refused.contains(REFUSED), "{refused}");
    let relay = scene.relay("second")?;
    relay.says("run `outbox-relay rebase`").await?;
    let (_, said) = operator(&scene, &["status"])?;
    assert!(said.contains(REFUSED), "{said}");

    let place = ["--kafka", &scene.servers.kafka, "--prefix", &scene.prefix];
    let (found, said) = operator(&scene, &[&["rebase", "--dry-run"][..], &place].concat())?;
    assert!(found && said.contains("main: from PostgreSQL cluster"), "{said}");
    relay.says("run `outbox-relay rebase`").await?;
    let (done, said) = operator(&scene, &[&["rebase"][..], &place].concat())?;
    assert!(done && said.contains("events are published now"), "{said}");
    let (again, said) = operator(&scene, &[&["rebase"][..], &place].concat())?;
    assert!(!again && said.contains("belongs to its PostgreSQL"), "{said}");

    let writers = Writers::start_with(&scene, Load { seed: 6, ..LOAD }, TOPICS)?;
    relay.publishes(200.0, WITHIN).await?;
    scene.create_topic("late", 2, &[]).await?;
    scene.emptied("lane", WITHIN).await?;
    let second = writers.stop().await?;
    for tally in [first, second] {
        scene.judge_with(&tally, LOAD.payload, TOPICS).await?;
    }
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_kafka_is_refused_until_a_rebase() -> anyhow::Result<()> {
    let mut kafka = Dedicated::kafka().await?;
    let scene = Scene::set_on(kafka.with_shared().await?).await?;
    let relay = scene.relay("relay")?;
    let app = PgPool::connect_with(scene.writer()?).await?;
    append(&app, vec![event("gamma", "k", 1, b"v".to_vec())]).await?;
    arrive(&mut scene.records()?, "gamma", "k", &[1]).await?;
    scene.drained(WITHIN).await?;
    kafka.replace().await?;
    scene.create_topics().await?;
    append(&app, vec![event("gamma", "k", 2, b"v".to_vec())]).await?;
    relay.says("this is the Kafka cluster").await?;
    let waiting =
        "select count(*) from outbox.event, outbox.cursor where not pg_visible_in_snapshot(xid, snap)";
    assert_eq!(sqlx::query_scalar::<_, i64>(waiting).fetch_one(&scene.superuser).await?, 1);
    let place = ["--kafka", &scene.servers.kafka, "--prefix", &scene.prefix];
    let (done, said) = operator(&scene, &[&["rebase"][..], &place].concat())?;
    assert!(done && said.contains("is not published again"), "{said}");
    arrive(&mut scene.records()?, "gamma", "k", &[2]).await?;
    scene.drained(WITHIN).await?;
    scene.end()
}

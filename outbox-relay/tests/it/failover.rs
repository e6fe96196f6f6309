//! Two replicas: whichever way the owner goes, the other one carries on.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use outbox::UnitOfWork;
use sqlx::PgPool;
use testkit::until;
use uuid::Uuid;

use crate::{
    records::Records,
    relay::Relay,
    scene::Scene,
    writers::{Load, Writers, event},
};

const LOAD: Load = Load { seed: 1, quick: 4, slow: 0, payload: 300 };
/// A dead owner is noticed after 3 s; what it took is printed, because a busy machine proves nothing.
const DEAD: Duration = Duration::from_secs(20);
/// One that stops says so.
const STOPPED: Duration = Duration::from_secs(20);
const WITHIN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_owner_is_killed_the_other_publishes() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (owner, standby) = two(&scene).await?;
    let (app, mut records) = (PgPool::connect_with(scene.writer()?).await?, scene.records()?);
    let before = append(&app).await?;
    arrives(before, &mut records, WITHIN)?;
    let killed = Instant::now();
    owner.kill()?;
    let after = append(&app).await?;
    arrives(after, &mut records, DEAD)?;
    report("after kill -9 of the owner the other published within", killed)?;
    assert_eq!(records.read_to_the_end()?.len(), 2);
    assert_eq!((scene.epoch().await?, standby.metric("outbox_lease_epoch").await?), (2, 2.0));
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_owner_is_stopped_the_other_takes_over_at_once() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (owner, standby) = two(&scene).await?;
    let writers = Writers::start(&scene, LOAD)?;
    owner.publishes(100.0, WITHIN).await?;
    let stopped = Instant::now();
    owner.signal(Signal::SIGTERM)?;
    standby.publishes(1.0, STOPPED).await?;
    report("after SIGTERM to the owner the other published within", stopped)?;
    assert_eq!(owner.terminate().await?, Some(0));
    let tally = writers.stop().await?;
    scene.judge(&tally, LOAD.payload).await?;
    assert_eq!(standby.metric("outbox_lease_epoch").await?, 2.0);
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_was_frozen_adds_only_repeats() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (owner, standby) = two(&scene).await?;
    let writers = Writers::start(&scene, LOAD)?;
    owner.publishes(100.0, WITHIN).await?;
    owner.signal(Signal::SIGSTOP)?;
    // The moment of the takeover is the worst one to come back.
    until("the standby takes the lease", WITHIN, || async {
        Ok((standby.metric("outbox_lease_epoch").await? == 2.0).then_some(()))
    })
    .await?;
    owner.signal(Signal::SIGCONT)?;
    owner.says("standing by").await?;
    standby.publishes(100.0, WITHIN).await?;
    let tally = writers.stop().await?;
    let verdict = scene.judge(&tally, LOAD.payload).await?;
    writeln!(std::io::stderr(), "failover: an owner was frozen, {verdict}")?;
    let epochs = (owner.metric("outbox_lease_epoch").await?, standby.metric("outbox_lease_epoch").await?);
    assert_eq!((epochs, scene.epoch().await?), ((0.0, 2.0), 2));
    // Nothing of it comes out later.
    assert_eq!(owner.terminate().await?, Some(0));
    scene.judge(&tally, LOAD.payload).await?;
    scene.end()
}

/// The owner and the standby.
async fn two(scene: &Scene) -> anyhow::Result<(Relay, Relay)> {
    let owner = scene.relay("owner")?;
    owner.says("publishing").await?;
    let standby = scene.relay("standby")?;
    standby.says("standing by").await?;
    Ok((owner, standby))
}

/// One event, in a transaction of its own.
async fn append(app: &PgPool) -> anyhow::Result<Uuid> {
    let id = Uuid::now_v7();
    UnitOfWork::begin(app).await?.commit(vec![event(id, "alpha", "account-1", 1, 0)]).await?;
    Ok(id)
}

fn arrives(id: Uuid, records: &mut Records, within: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    while !records.read_to_the_end()?.iter().any(|record| record.id() == Some(id)) {
        anyhow::ensure!(started.elapsed() < within, "event {id} has not arrived within {within:?}");
    }
    Ok(())
}

fn report(what: &str, since: Instant) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stderr(), "failover: {what} {} ms", since.elapsed().as_millis())?)
}

//! What an operator's dashboards and alerts read.

use std::time::Duration;

use nix::sys::signal::Signal;
use outbox::Event;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use telemetry::catalogue;
use testkit::until;

use crate::{
    refusals::{append, event},
    relay::Relay,
    scene::Scene,
};

const WITHIN: Duration = Duration::from_secs(30);

async fn becomes(relay: &Relay, metric: &str, is: impl Fn(f64) -> bool) -> anyhow::Result<()> {
    until(metric, WITHIN, || async { Ok(is(relay.metric(metric).await?).then_some(())) }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_of_the_catalogue_is_there_and_topics_have_their_logical_names() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let relay = scene.relay("relay")?;
    let app = PgPool::connect_with(scene.writer()?).await?;
    let nowhere = Event { partition: Some(99), ..event("beta", "k", 1, b"v".to_vec()) };
    append(&app, vec![event("alpha", "k", 1, b"v".to_vec()), nowhere]).await?;
    relay.says("keys held: 1").await?;
    relay.publishes(1.0, WITHIN).await?;
    let text = relay.get("/metrics").await?.unwrap_or_default();
    for line in [
        "outbox_published_total{outbox=\"main\",topic=\"alpha\"} 1",
        "outbox_refused_total{outbox=\"main\",topic=\"alpha\"} 0",
        "outbox_published_total{outbox=\"main\",topic=\"beta\"} 0",
        "outbox_refused_total{outbox=\"main\",topic=\"beta\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing: {text}");
    }
    assert!(!text.contains(&scene.prefix), "a dashboard would be one for each deployment: {text}");
    let section = catalogue::ALL.iter().find(|section| section.title == "Outbox and relay");
    for metric in section.expect("the relay's metrics").metrics {
        assert!(text.contains(&format!("\n{}", metric.name)), "{} is missing: {text}", metric.name);
    }
    // Another process knows the topics before it publishes: its first event is an increase.
    let standby = scene.relay("standby")?;
    standby.says("standing by").await?;
    let text = standby.get("/metrics").await?.unwrap_or_default();
    assert!(text.contains("outbox_published_total{outbox=\"main\",topic=\"alpha\"} 0\n"), "{text}");
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_stays_open_ages() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let relay = scene.relay("relay")?;
    relay.says("publishing").await?;
    let name = "outbox_oldest_transaction_seconds";
    // Of another role: the relay does not see when it began.
    let mut writer = PgConnection::connect_with(&scene.writer()?).await?;
    let mut transaction = writer.begin().await?;
    sqlx::query("update account set version = 1 where key = 'account-1'").execute(&mut *transaction).await?;
    becomes(&relay, name, |age| age > 1.5).await?;
    transaction.rollback().await?;
    becomes(&relay, name, |age| age == 0.0).await?;
    // What is prepared belongs to nobody any more.
    let gid = format!("{}prepared", scene.prefix);
    let prepare =
        format!("begin; update account set version = 1 where key = 'account-1'; prepare transaction '{gid}'");
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut writer).await?;
    becomes(&relay, name, |age| age > 1.5).await?;
    sqlx::raw_sql(AssertSqlSafe(format!("rollback prepared '{gid}'"))).execute(&mut writer).await?;
    becomes(&relay, name, |age| age == 0.0).await?;
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_may_not_look_at_is_unknown_and_nothing_stops() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    sqlx::raw_sql("revoke select on pg_prepared_xacts from public").execute(&scene.superuser).await?;
    let relay = scene.relay("relay")?;
    let app = PgPool::connect_with(scene.writer()?).await?;
    append(&app, vec![event("alpha", "k", 1, b"v".to_vec())]).await?;
    relay.publishes(1.0, WITHIN).await?;
    becomes(&relay, "outbox_oldest_transaction_seconds", f64::is_nan).await?;
    assert_eq!(relay.metric("outbox_sessions_lost_total").await?, 0.0);
    assert_eq!(relay.metric("outbox_lease_epoch").await?, 1.0);
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_owner_says_how_the_outbox_is() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let owner = scene.relay("owner")?;
    owner.says("publishing").await?;
    let standby = scene.relay("standby")?;
    standby.says("standing by").await?;
    let app = PgPool::connect_with(scene.writer()?).await?;
    let nowhere = Event { partition: Some(99), ..event("alpha", "k", 1, b"v".to_vec()) };
    append(&app, vec![nowhere]).await?;
    let held = "outbox_held_keys";
    becomes(&owner, held, |keys| keys == 1.0).await?;
    becomes(&owner, "outbox_ring_leaves_used", |leaves| leaves > 0.0).await?;
    assert_eq!(standby.metric(held).await?, 0.0);
    owner.signal(Signal::SIGSTOP)?;
    becomes(&standby, "outbox_lease_epoch", |epoch| epoch == 2.0).await?;
    becomes(&standby, held, |keys| keys == 1.0).await?;
    owner.signal(Signal::SIGCONT)?;
    owner.says("standing by").await?;
    for metric in [held, "outbox_ring_leaves_used"] {
        assert_eq!(owner.metric(metric).await?, 0.0, "{metric}");
    }
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_grows_older_while_the_database_is_away() -> anyhow::Result<()> {
    let mut scene = Scene::set().await?;
    let nobody = format!("127.0.0.1:{}", stack::port::free());
    let kafka = std::mem::replace(&mut scene.servers.kafka, nobody);
    let relay = scene.relay("relay")?;
    scene.servers.kafka = kafka;
    relay.says("main: ").await?;
    let app = PgPool::connect_with(scene.writer()?).await?;
    append(&app, vec![event("alpha", "k", 1, b"v".to_vec())]).await?;
    let oldest = "outbox_oldest_unpublished_seconds";
    becomes(&relay, oldest, |age| age > 0.0).await?;
    assert_eq!(relay.metric("outbox_sessions_lost_total").await?, 0.0);

    let mut elsewhere = PgConnection::connect(&format!("{}/postgres", scene.servers.postgres)).await?;
    let admit = |admitted: bool| {
        let database = scene.database();
        sqlx::raw_sql(AssertSqlSafe(format!("alter database {database} allow_connections {admitted}")))
    };
    // Taken before nobody can open a session any more.
    let mut superuser = scene.superuser.acquire().await?;
    admit(false).execute(&mut elsewhere).await?;
    scene.cut_off_relays_from(&mut superuser).await?;
    becomes(&relay, "outbox_sessions_lost_total", |sessions| sessions == 1.0).await?;
    assert_eq!(relay.metric("outbox_up").await?, 0.0);
    let then = relay.metric(oldest).await?;
    assert!(then > 0.0);
    becomes(&relay, oldest, |age| age > then + 1.0).await?;
    assert_eq!(relay.metric("outbox_sessions_lost_total").await?, 1.0, "what was not opened is not lost");

    // What another one publishes does not wait here any more.
    relay.signal(Signal::SIGSTOP)?;
    admit(true).execute(&mut elsewhere).await?;
    let other = scene.relay("other")?;
    other.says("publishing").await?;
    other.publishes(1.0, WITHIN).await?;
    relay.signal(Signal::SIGCONT)?;
    relay.says("standing by").await?;
    assert_eq!(relay.metric(oldest).await?, 0.0);
    scene.end()
}

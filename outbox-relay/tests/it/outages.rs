//! Kafka or PostgreSQL away under load: writers go on, memory stays bounded, the relay goes on by itself.

use std::{io::Write as _, time::Duration};

use testkit::{Dedicated, until};

use crate::{
    relay::Relay,
    scene::Scene,
    writers::{Load, Writers},
};

const LOAD: Load = Load { seed: 3, quick: 4, slow: 1, payload: 1_000 };
const WITHIN: Duration = Duration::from_secs(60);
/// Of a debug build; the bound is on what is in flight, not on this figure.
const MEMORY_MIB: u64 = 128;

async fn publishes(relay: &Relay, more: f64) -> anyhow::Result<()> {
    let before = relay.metric("outbox_published_total").await?;
    relay.publishes(before + more, WITHIN).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_away_and_comes_back() -> anyhow::Result<()> {
    // More waits than the relay may hold in memory.
    let load = Load { payload: 20_000, ..LOAD };
    let mut kafka = Dedicated::kafka().await?;
    let scene = Scene::set_on(kafka.with_shared().await?).await?;
    let mut relay = scene.relay("relay")?;
    relay.says("publishing").await?;
    let writers = Writers::start(&scene, load)?;
    publishes(&relay, 50.0).await?;
    kafka.kill().await?;
    let before = writers.tally().committed();
    let mut memory = 0;
    until("writers go on", WITHIN, || {
        memory = memory.max(relay.memory().unwrap_or(u64::MAX));
        let committed = writers.tally().committed();
        async move { Ok((committed > before + 2_000).then_some(())) }
    })
    .await?;
    relay.says_within("Kafka does not", WITHIN).await?;
    assert!(relay.metric("outbox_oldest_unpublished_seconds").await? > 0.0);
    assert!(relay.metric("outbox_in_flight_events").await? > 0.0);
    kafka.start().await?;
    publishes(&relay, 2_000.0).await?;
    let tally = writers.stop().await?;
    scene.drained(WITHIN).await?;
    let verdict = scene.judge(&tally, load.payload).await?;
    memory = memory.max(relay.memory()?);
    writeln!(std::io::stderr(), "outages: Kafka was killed, {verdict}, {memory} MiB at most")?;
    assert!(memory < MEMORY_MIB, "{memory} MiB");
    assert_eq!(tally.failed(), Vec::<String>::new(), "a writer has noticed");
    assert!(relay.runs()?, "no other process was needed");
    assert_eq!(scene.count("parked").await?, 0, "an outage is nobody's fault");
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_killed_again_and_again() -> anyhow::Result<()> {
    let mut postgres = Dedicated::postgres().await?;
    let scene = Scene::set_on(postgres.with_shared().await?).await?;
    let mut relay = scene.relay("relay")?;
    relay.says("publishing").await?;
    for round in 0..3 {
        let writers = Writers::start(&scene, Load { seed: round, ..LOAD })?;
        publishes(&relay, 50.0).await?;
        postgres.kill().await?;
        postgres.start().await?;
        publishes(&relay, 50.0).await?;
        let tally = writers.stop().await?;
        scene.drained(WITHIN).await?;
        let verdict = scene.judge(&tally, LOAD.payload).await?;
        writeln!(std::io::stderr(), "outages: PostgreSQL was killed, round {round}, {verdict}")?;
    }
    assert!(relay.runs()?, "no other process was needed");
    scene.end()
}

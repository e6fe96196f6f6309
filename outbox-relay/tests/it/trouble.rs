//! The proof by experiment with trouble in it: a topic that is created late, and one that refuses what is too large.
//! Relays come and go, an operator releases keys, and in the end everything has arrived in order but what was refused.

use std::{io::Write as _, process::Command, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use testkit::until;
use tokio::time::sleep;

use crate::{
    proof::{rage, repeatable},
    scene::{Scene, Topics},
    writers::{Load, SMALL, Writers},
};

const PAYLOAD: usize = 200;
const TROUBLE: Topics = &[("alpha", 6), ("late", 3), (SMALL, 2)];
const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_events_and_a_late_topic_disturb_no_other() -> anyhow::Result<()> {
    repeatable(prove).await
}

async fn prove(seed: u64, duration: Duration) -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.create_topic(SMALL, 2, &[("max.message.bytes", "20000")]).await?;
    scene.create_topic(&format!("{SMALL}.outbox.dlq"), 2, &[]).await?;
    let load = Load { seed, quick: 8, slow: 2, payload: PAYLOAD };
    let writers = Writers::start_with(&scene, load, TROUBLE)?;
    let late = async {
        sleep(duration / 2).await;
        scene.create_topic("late", 3, &[]).await
    };
    let (mut relays, mut operators) = (StdRng::seed_from_u64(seed), StdRng::seed_from_u64(seed));
    let (chaos, (), ()) = tokio::try_join!(
        rage(&scene, &mut relays, duration),
        late,
        operate(&scene, &mut operators, duration)
    )?;
    let tally = writers.stop().await?;
    let mut last = scene.relay("last")?;
    scene.drained(WITHIN).await?;
    scene.emptied("lane", WITHIN).await?;
    until("no key is held", WITHIN, || async {
        for (topic, key) in held(&scene).await? {
            release(&scene, &topic, &key, "--discard")?;
        }
        Ok((scene.count("hold").await? == 0).then_some(()))
    })
    .await?;
    assert_eq!(scene.count("parked").await?, 0);
    let verdict = scene.judge_with(&tally, PAYLOAD, TROUBLE).await?;
    assert!(last.runs()?);
    assert_eq!(last.terminate().await?, Some(0));
    writeln!(
        std::io::stderr(),
        "trouble: seed {seed}, {} s, {verdict}, relays were {chaos:?}",
        duration.as_secs()
    )?;
    scene.end()
}

/// Releases a key now and then.
async fn operate(scene: &Scene, random: &mut StdRng, duration: Duration) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    while started.elapsed() < duration {
        sleep(Duration::from_millis(random.random_range(200..1_500))).await;
        let flag = if random.random_bool(0.3) { "--retry" } else { "--discard" };
        let held = held(scene).await?;
        if !held.is_empty() {
            let (topic, key) = &held[random.random_range(0..held.len())];
            release(scene, topic, key, flag)?;
        }
    }
    Ok(())
}

/// Topic and key of what is held. Nobody is held for an event that is not too large.
async fn held(scene: &Scene) -> anyhow::Result<Vec<(String, String)>> {
    let innocent = "select convert_from(substr(payload, 1, 40), 'UTF8') || ': ' || reason from outbox.parked
        where reason is not null and octet_length(payload) < 20000";
    let innocent: Option<String> = sqlx::query_scalar(innocent).fetch_optional(&scene.superuser).await?;
    anyhow::ensure!(innocent.is_none(), "an innocent event was convicted: {innocent:?}");
    let held = "select topic, convert_from(key, 'UTF8') from outbox.hold where not released order by 1, 2";
    Ok(sqlx::query_as(held).fetch_all(&scene.superuser).await?)
}

fn release(scene: &Scene, topic: &str, key: &str, flag: &str) -> anyhow::Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_outbox-relay"))
        .args(["release", "--topic", topic, "--key", key, flag])
        .args(["--outbox", &format!("main={}", scene.url("orderly_relay"))])
        .output()?;
    // It may have been lifted meanwhile; that is said on the other stream.
    anyhow::ensure!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

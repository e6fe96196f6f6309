//! A topic that takes less than the relay's batches, in a live stream.

use std::time::Duration;

use testkit::until;

use crate::{
    records::Records,
    refusals::{append, arrive, event, operator, sequences},
    scene::Scene,
};

const WITHIN: Duration = Duration::from_secs(30);
/// A topic that takes no more than 20,000 bytes in a batch.
const SMALL: (&str, i32) = ("small", 1);
const LIMIT: &[(&str, &str)] = &[("max.message.bytes", "20000")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_with_two_refused_events_can_be_released_twice() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.create_topic(SMALL.0, SMALL.1, LIMIT).await?;
    let _relay = scene.relay("relay")?;
    let app = sqlx::PgPool::connect_with(scene.writer()?).await?;
    let mut records = Records::of(&scene.servers.kafka, &scene.prefix, &[SMALL])?;
    let events = (1..=6).map(|sequence| {
        let payload = if matches!(sequence, 2 | 4) { noise(30_000) } else { noise(10) };
        event(SMALL.0, "k", sequence, payload)
    });
    append(&app, events.collect()).await?;
    for expected in [&[1, 3][..], &[1, 3, 5, 6]] {
        until("the key is held", WITHIN, || async {
            let held = "select count(*) from outbox.hold where not released";
            let held: i64 = sqlx::query_scalar(held).fetch_one(&scene.superuser).await?;
            Ok((held == 1).then_some(()))
        })
        .await?;
        let (done, said) = operator(&scene, &["release", "--topic", SMALL.0, "--key", "k", "--discard"])?;
        assert!(done, "{said}");
        arrive(&mut records, SMALL.0, "k", expected).await?;
    }
    scene.emptied("hold", WITHIN).await?;
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_events_that_are_too_large_together_keep_their_order() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.create_topic(SMALL.0, SMALL.1, LIMIT).await?;
    let app = sqlx::PgPool::connect_with(scene.writer()?).await?;
    // A backlog and a stream: batches of every size.
    let mut relay = None;
    for sequence in 1..=400 {
        if sequence == 200 {
            relay = Some(scene.relay("relay")?);
        }
        let events = (0..10).map(|key| {
            // One that just goes, alone.
            let bytes = if (key, sequence) == (5, 300) { 19_000 } else { 200 };
            event(SMALL.0, &format!("k{key}"), sequence, noise(bytes))
        });
        append(&app, events.collect()).await?;
    }
    arrived_in_order(&scene, |_| 400).await?;
    assert_eq!(scene.count("parked").await?, 0);
    drop(relay);
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_event_in_a_live_stream_delays_no_other_key_into_disorder() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.create_topic(SMALL.0, SMALL.1, LIMIT).await?;
    let _relay = scene.relay("relay")?;
    let app = sqlx::PgPool::connect_with(scene.writer()?).await?;
    for sequence in 1..=200 {
        let events = (0..10).map(|key| {
            let large = key == 3 && sequence == 100;
            event(SMALL.0, &format!("k{key}"), sequence, noise(if large { 30_000 } else { 20 }))
        });
        append(&app, events.collect()).await?;
    }
    arrived_in_order(&scene, |key| if key == 3 { 99 } else { 200 }).await?;
    assert_eq!((scene.count("hold").await?, scene.count("parked").await?), (1, 101));
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_catches_up_beside_refused_batches_keeps_its_order() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.create_topic(SMALL.0, SMALL.1, LIMIT).await?;
    let relay = scene.relay("relay")?;
    let app = sqlx::PgPool::connect_with(scene.writer()?).await?;
    let mut sequence = 0;
    let mut write = async || {
        sequence += 1;
        let mut events = vec![event("late", "k", sequence, noise(20))];
        // More than a batch of this topic may have.
        events.extend((0..25).map(|key| event(SMALL.0, &format!("k{key}"), sequence, noise(1_000))));
        append(&app, events).await?;
        anyhow::Ok(sequence)
    };
    for _ in 0..20 {
        write().await?;
    }
    relay.says("late waits").await?;
    scene.create_topic("late", 1, &[]).await?;
    // Until it has caught up, and a little further.
    let started = std::time::Instant::now();
    while scene.count("lane").await? > 0 {
        anyhow::ensure!(started.elapsed() < WITHIN, "the lane does not catch up");
        write().await?;
        // A pace that the relay can keep up with.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let last = write().await?;
    relay.kill()?;
    scene.free_lease().await?;
    let _relay = scene.relay("second")?;
    scene.drained(WITHIN).await?;
    scene.emptied("lane", WITHIN).await?;
    let mut records = Records::of(&scene.servers.kafka, &scene.prefix, &[("late", 1)])?;
    let found = sequences(records.read_to_the_end()?, "late", "k");
    assert_eq!(found, (1..=last).collect::<Vec<_>>());
    scene.end()
}

/// Waits until all is published, and looks whether each key has so many events, in order.
async fn arrived_in_order(scene: &Scene, events: impl Fn(usize) -> usize) -> anyhow::Result<()> {
    scene.drained(WITHIN).await?;
    let mut records = Records::of(&scene.servers.kafka, &scene.prefix, &[SMALL])?;
    let records = records.read_to_the_end()?;
    for key in 0..10 {
        let found = sequences(records, SMALL.0, &format!("k{key}"));
        assert!(found.is_sorted() && found.len() == events(key), "k{key}: {found:?}");
    }
    Ok(())
}

/// Nothing that a compression could make smaller.
pub fn noise(bytes: usize) -> Vec<u8> {
    rand::random_iter().take(bytes).collect()
}

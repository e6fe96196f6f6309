//! What Kafka will not take: one record, a whole topic, a changed topic. Everything else flows meanwhile, in order.

use std::{process::Command, time::Duration};

use outbox::{Event, Headers, UnitOfWork};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminOptions, NewPartitions},
    consumer::{BaseConsumer, CommitMode, Consumer as _},
};
use sqlx::PgPool;
use testkit::until;
use uuid::Uuid;

use crate::{
    records::{Record, Records},
    relay::Relay,
    scene::Scene,
};

const WITHIN: Duration = Duration::from_secs(30);

pub fn event(topic: &'static str, key: &str, sequence: i64, payload: Vec<u8>) -> Event {
    let id = Uuid::now_v7();
    let headers = [("ce_id", id.to_string()), ("ce_sequence", sequence.to_string())];
    let headers: Headers =
        headers.map(|(name, value)| (name.to_owned(), Some(value.into_bytes()))).into_iter().collect();
    Event {
        id,
        topic: topic.into(),
        key: Some(key.into()),
        aggregate_id: Some(key.to_owned()),
        sequence: Some(sequence),
        headers,
        payload: Some(payload),
        partition: None,
    }
}

pub async fn append(pool: &PgPool, events: Vec<Event>) -> anyhow::Result<()> {
    Ok(UnitOfWork::begin(pool).await?.commit(events).await?)
}

/// The sequences of a key in a topic, first occurrences only.
pub fn sequences(records: &[Record], topic: &str, key: &str) -> Vec<i64> {
    let mut found = Vec::new();
    for record in records.iter().filter(|record| record.topic == topic) {
        if record.key.as_deref() != Some(key.as_bytes()) {
            continue;
        }
        let sequence = record.headers.text("ce_sequence").and_then(|text| text.parse().ok()).unwrap_or(-1);
        if !found.contains(&sequence) {
            found.push(sequence);
        }
    }
    found
}

pub async fn arrive(records: &mut Records, topic: &str, key: &str, expected: &[i64]) -> anyhow::Result<()> {
    let mut seen = Vec::new();
    let arrived = until("the events arrive", WITHIN, || {
        let now = records.read_to_the_end().map(|records| sequences(records, topic, key));
        let done = now.map(|now| {
            seen.clone_from(&now);
            (now.len() >= expected.len()).then_some(())
        });
        async move { done }
    });
    let arrived = arrived.await;
    assert_eq!(seen, expected, "{topic} {key}: {arrived:?}");
    Ok(())
}

/// Waits until the first row in a lane has waited for so long, in seconds, while everything else flows.
async fn waits(relay: &Relay, seconds: f64) -> anyhow::Result<()> {
    until("the lane's row ages", WITHIN, || async {
        let oldest = relay.metric("outbox_oldest_unpublished_seconds").await?;
        let unpublished = relay.metric("outbox_unpublished_events").await?;
        Ok((oldest > seconds && unpublished >= 1.0).then_some(()))
    })
    .await
}

/// Runs the command of an operator.
pub fn operator(scene: &Scene, args: &[&str]) -> anyhow::Result<(bool, String)> {
    let output = Command::new(env!("CARGO_BIN_EXE_outbox-relay"))
        .args(args)
        .args(["--outbox", &format!("main={}", scene.url("orderly_relay"))])
        .env_remove("ORDERLY_OUTBOX")
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status.success(), said + &String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_does_not_exist_waits_alone_and_catches_up_in_order() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let relay = scene.relay("relay")?;
    let (app, mut records) = (PgPool::connect_with(scene.writer()?).await?, scene.records()?);
    let both = |sequence| {
        vec![event("absent", "k", sequence, b"v".to_vec()), event("alpha", "k", sequence, b"v".to_vec())]
    };
    append(&app, both(1)).await?;
    relay.says("absent waits: topic").await?;
    for sequence in 2..=5 {
        append(&app, both(sequence)).await?;
    }
    arrive(&mut records, "alpha", "k", &[1, 2, 3, 4, 5]).await?;
    let (found, said) = operator(&scene, &["status"])?;
    assert!(found && said.contains("topic absent waits since"), "{said}");
    until("the lane is counted", WITHIN, || async {
        Ok((relay.metric("outbox_lanes").await? == 1.0).then_some(()))
    })
    .await?;
    waits(&relay, 2.0).await?;
    // A lane outlives the relay that opened it.
    relay.kill()?;
    scene.free_lease().await?;
    let relay = scene.relay("second")?;
    append(&app, both(6)).await?;
    arrive(&mut records, "alpha", "k", &[1, 2, 3, 4, 5, 6]).await?;
    waits(&relay, 3.0).await?;

    scene.create_topic("absent", 3, &[]).await?;
    let mut absent = Records::of(&scene.servers.kafka, &scene.prefix, &[("absent", 3)])?;
    arrive(&mut absent, "absent", "k", &[1, 2, 3, 4, 5, 6]).await?;
    until("the lane is gone", WITHIN, || async {
        let metrics = ["outbox_lanes", "outbox_oldest_unpublished_seconds", "outbox_unpublished_events"];
        for metric in metrics {
            if relay.metric(metric).await? != 0.0 {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await?;
    append(&app, both(7)).await?;
    arrive(&mut absent, "absent", "k", &[1, 2, 3, 4, 5, 6, 7]).await?;
    scene.drained(WITHIN).await?;
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_too_large_holds_its_key_and_no_other() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.create_topic("small", 1, &[("max.message.bytes", "20000")]).await?;
    scene.create_topic("small.outbox.dlq", 1, &[]).await?;
    let relay = scene.relay("relay")?;
    let app = PgPool::connect_with(scene.writer()?).await?;
    let mut records =
        Records::of(&scene.servers.kafka, &scene.prefix, &[("small", 1), ("small.outbox.dlq", 1)])?;
    // Ten keys in one batch of the producer; the third event of one of them is too large for the topic, and does not
    // compress.
    let noise: Vec<u8> = rand::random_iter().take(30_000).collect();
    let mut events = Vec::new();
    for sequence in 1..=5 {
        for key in 0..10 {
            let large = key == 3 && sequence == 3;
            let payload = if large { noise.clone() } else { b"v".to_vec() };
            events.push(event("small", &format!("k{key}"), sequence, payload));
        }
    }
    append(&app, events).await?;
    for key in (0..10).filter(|key| *key != 3) {
        arrive(&mut records, "small", &format!("k{key}"), &[1, 2, 3, 4, 5]).await?;
    }
    arrive(&mut records, "small", "k3", &[1, 2]).await?;
    arrive(&mut records, "small.outbox.dlq", "k3", &[3]).await?;
    relay.says("keys held: 1").await?;
    append(&app, vec![event("small", "k3", 6, b"v".to_vec())]).await?;
    scene.drained(WITHIN).await?;
    let (found, said) = operator(&scene, &["status", "--json"])?;
    let status: serde_json::Value = serde_json::from_str(&said)?;
    assert!(found && status[0]["parked"] == 4, "{said}");
    assert_eq!((&status[0]["holds"][0]["key"], &status[0]["holds"][0]["parked"]), (&"k3".into(), &4.into()));

    // Another relay knows of the hold.
    assert_eq!(relay.terminate().await?, Some(0));
    let relay = scene.relay("second")?;
    append(&app, vec![event("small", "k3", 7, b"v".to_vec())]).await?;
    scene.drained(WITHIN).await?;
    arrive(&mut records, "small", "k3", &[1, 2]).await?;
    let (released, said) = operator(&scene, &["release", "--topic", "small", "--key", "k3"])?;
    assert!(released && said.contains("4 that waited are published now"), "{said}");
    arrive(&mut records, "small", "k3", &[1, 2, 4, 5, 6, 7]).await?;
    until("the hold is lifted", WITHIN, || async {
        Ok((relay.metric("outbox_held_keys").await? == 0.0).then_some(()))
    })
    .await?;
    append(&app, vec![event("small", "k3", 8, b"v".to_vec())]).await?;
    arrive(&mut records, "small", "k3", &[1, 2, 4, 5, 6, 7, 8]).await?;
    let (again, said) = operator(&scene, &["release", "--topic", "small", "--key", "k3"])?;
    assert!(!again && said.contains("no outbox holds this key"), "{said}");
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_event_without_a_copy_is_not_dropped_by_mistake() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let relay = scene.relay("relay")?;
    let (app, mut records) = (PgPool::connect_with(scene.writer()?).await?, scene.records()?);
    // Partition 99 does not exist, and neither does alpha.outbox.dlq.
    let nowhere = Event { partition: Some(99), ..event("alpha", "k", 1, b"v".to_vec()) };
    append(&app, vec![nowhere, event("alpha", "k", 2, b"v".to_vec())]).await?;
    relay.says("keys held: 1").await?;
    let release = |more: &[&str]| {
        let args = [&["release", "--topic", "alpha", "--key", "k"], more].concat();
        operator(&scene, &args)
    };
    let (released, said) = release(&[])?;
    assert!(!released && said.contains("--retry, or --discard"), "{said}");
    // Tried again it is refused again, and the key stays held.
    let (released, _) = release(&["--retry"])?;
    assert!(released);
    let held = "select count(*) from outbox.hold where not released";
    until("it is held again", WITHIN, || async {
        let held: i64 = sqlx::query_scalar(held).fetch_one(&scene.superuser).await?;
        Ok((held == 1).then_some(()))
    })
    .await?;
    let (released, _) = release(&["--discard"])?;
    assert!(released);
    arrive(&mut records, "alpha", "k", &[2]).await?;
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_event_in_the_page_of_a_missing_topic_holds_its_key_for_good() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (app, mut records) = (PgPool::connect_with(scene.writer()?).await?, scene.records()?);
    // One transaction, so one page: the last event finds no topic after the second was refused.
    let nowhere = Event { partition: Some(99), ..event("alpha", "k", 1, b"v".to_vec()) };
    let page = vec![
        event("alpha", "other", 1, b"v".to_vec()),
        nowhere,
        event("alpha", "k", 2, b"v".to_vec()),
        event("absent", "k", 1, b"v".to_vec()),
    ];
    append(&app, page).await?;
    let relay = scene.relay("relay")?;
    relay.says("absent waits: topic").await?;
    arrive(&mut records, "alpha", "other", &[1]).await?;
    scene.drained(WITHIN).await?;
    let parked = "select count(*), count(reason), (select count(*) from outbox.hold) from outbox.parked";
    let parked: (i64, i64, i64) = sqlx::query_as(parked).fetch_one(&scene.superuser).await?;
    assert_eq!(parked, (2, 1, 1), "parked, of them refused, keys held");
    let copies = records.read_to_the_end()?.iter().filter(|record| record.key.as_deref() == Some(b"other"));
    assert_eq!(copies.count(), 1, "what was on its way is not sent again");
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_has_grown_waits_until_its_consumers_have_read_all_of_it() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let relay = scene.relay("relay")?;
    let (app, mut records) = (PgPool::connect_with(scene.writer()?).await?, scene.records()?);
    append(&app, vec![event("gamma", "k", 1, b"v".to_vec())]).await?;
    arrive(&mut records, "gamma", "k", &[1]).await?;
    relay.kill()?;
    let name = format!("{}gamma", scene.prefix);
    let grow =
        scene.kafka_admin()?.create_partitions([&NewPartitions::new(&name, 4)], &AdminOptions::new()).await?;
    assert!(grow.iter().all(Result::is_ok), "{grow:?}");
    scene.free_lease().await?;
    let relay = scene.relay("second")?;
    append(&app, vec![event("gamma", "k", 2, b"v".to_vec()), event("alpha", "k", 1, b"v".to_vec())]).await?;
    arrive(&mut records, "alpha", "k", &[1]).await?;
    relay.says("had 1 partitions and has 4").await?;
    let go_on = || {
        let (kafka, prefix) = (scene.servers.kafka.as_str(), scene.prefix.as_str());
        let place = ["--kafka", kafka, "--prefix", prefix];
        operator(&scene, &[&["repartition", "--topic", "gamma", "--group", "readers"][..], &place].concat())
    };
    let (done, said) = go_on()?;
    assert!(!done && said.contains("has 1 records of"), "{said}");
    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &scene.servers.kafka)
        .set("group.id", format!("{}readers", scene.prefix))
        .create()?;
    let mut read = TopicPartitionList::new();
    read.add_partition_offset(&name, 0, Offset::Offset(1))?;
    reader.commit(&read, CommitMode::Sync)?;
    let (done, said) = go_on()?;
    assert!(done && said.contains("gamma goes on with 4 partitions"), "{said}");
    let mut grown = Records::of(&scene.servers.kafka, &scene.prefix, &[("gamma", 4)])?;
    arrive(&mut grown, "gamma", "k", &[1, 2]).await?;
    scene.end()
}

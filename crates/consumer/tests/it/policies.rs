//! What happens to a record that cannot be processed is the subscription's to say.

use consumer::dead_letters::{Filter, groups};
use rdkafka::admin::AdminOptions;
use testkit::until;

use crate::scene::{BLOCKING, NOTES, SKIPPING, Scene, WITHIN, notes};

/// Two keys, in different partitions.
const KEYS: [&str; 2] = ["a", "b"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_blocks_waits_and_goes_on_by_itself() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.break_for("a2", "poison").await?;
    scene.send_all(BLOCKING, &notes(&KEYS, 3)).await?;
    let worker = scene.worker().await?;
    let mut effects = scene.took_effect(4).await?;
    effects.sort_unstable();
    assert_eq!(effects, ["a1", "b1", "b2", "b3"], "the other partition flows");
    let words = worker.complains("field text is a2").await?;
    assert!(words.contains("waits at record blocking["), "{words}");
    assert!(worker.metrics.text().contains(r#"consumer_blocked_partitions{group="notes"} 1.0"#));
    assert_eq!(scene.letters("parked").await?, 0);
    scene.mend().await?;
    let effects = scene.took_effect(6).await?;
    assert_eq!(effects[4..], ["a2", "a3"], "in their order");
    // It takes new ones again.
    scene.send(BLOCKING, "a", "a4").await?;
    scene.took_effect(7).await?;
    assert_eq!(worker.heartbeat.trouble(), None);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_partition_that_goes_and_comes_back_flows_again() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for text in ["a1", "b1"] {
        scene.break_for(text, "config").await?;
    }
    // All six partitions: which of them a second worker gets is the broker's to say.
    let topics = [NOTES, BLOCKING, SKIPPING];
    for topic in topics {
        scene.send_all(topic, &notes(&KEYS, 2)).await?;
    }
    let first = scene.worker().await?;
    until("all partitions wait", WITHIN, || async {
        Ok(first.metrics.text().contains(r#"consumer_blocked_partitions{group="notes"} 6.0"#).then_some(()))
    })
    .await?;
    let second = scene.worker().await?;
    second.complains("waits at record").await?;
    let left = second.metrics.clone();
    second.stop().await?;
    assert!(left.text().contains(r#"consumer_blocked_partitions{group="notes"} 0.0"#), "{}", left.text());
    scene.mend().await?;
    scene.took_effect(12).await?;
    // Not only what was read before.
    for topic in topics {
        scene.send_all(topic, &notes(&KEYS, 2)).await?;
    }
    assert_eq!(scene.took_effect(24).await?.len(), 24, "each once");
    first.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_partition_that_is_gone_is_nobodys_trouble() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.break_for("a1", "poison").await?;
    scene.send(BLOCKING, "a", "a1").await?;
    let worker = scene.worker().await?;
    let shows = async |blocked: &str| {
        let sample = format!(r#"consumer_blocked_partitions{{group="notes"}} {blocked}"#);
        until(&sample, WITHIN, || async { Ok(worker.metrics.text().contains(&sample).then_some(())) }).await
    };
    shows("1.0").await?;
    let topic = format!("{}{BLOCKING}", scene.kafka.prefix);
    for deleted in scene.admin()?.delete_topics(&[&topic], &AdminOptions::new()).await? {
        deleted.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    shows("0.0").await?;
    assert_eq!(worker.heartbeat.trouble(), None);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_takes_too_long_holds_up_its_partition_only() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.break_for("a2", "slow").await?;
    scene.send_all(NOTES, &notes(&KEYS, 3)).await?;
    let worker = scene.worker().await?;
    scene.took_effect(4).await?;
    worker.complains("statement timeout").await?;
    assert_eq!(scene.letters("parked").await?, 0);
    scene.mend().await?;
    let effects = scene.took_effect(6).await?;
    assert_eq!(effects[4..], ["a2", "a3"]);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_order_does_not_matter_later_records_of_the_key_flow() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.break_for("a2", "poison").await?;
    scene.send_all(SKIPPING, &notes(&["a"], 3)).await?;
    let worker = scene.worker().await?;
    assert_eq!(scene.took_effect(2).await?, ["a1", "a3"]);
    assert_eq!(groups(&scene.operator, &Filter::default()).await?[0].parked, 1);
    scene.mend().await?;
    let replayed = scene.replay().await?;
    assert_eq!((replayed.selected, replayed.replayed, replayed.dead_again), (1, 1, 0));
    assert_eq!(scene.effects().await?, ["a1", "a3", "a2"]);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_in_the_installation_is_no_records_fault() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.break_for("a1", "config").await?;
    scene.send_all(NOTES, &notes(&KEYS, 2)).await?;
    let worker = scene.worker().await?;
    worker.complains("relation \"missing\" does not exist").await?;
    scene.took_effect(2).await?;
    assert_eq!(scene.letters("parked").await?, 0, "nothing is parked");
    sqlx::raw_sql("create table missing (); grant select on missing to public").execute(&scene.owner).await?;
    let mut effects = scene.took_effect(4).await?;
    effects.sort_unstable();
    assert_eq!(effects, ["a1", "a2", "b1", "b2"]);
    worker.stop().await
}

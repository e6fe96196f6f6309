//! Groups: an older protocol, and members that come and go.

use testkit::Dedicated;

use crate::scene::{NOTES, Scene, notes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_does_not_speak_the_new_protocol_is_spoken_to_in_the_old_one() -> anyhow::Result<()> {
    let kafka = Dedicated::kafka_with(&[("group.coordinator.rebalance.protocols", "classic")]).await?;
    let scene = Scene::set_on(kafka.with_shared().await?).await?;
    scene.send_all(NOTES, &notes(&["a", "b"], 3)).await?;
    let worker = scene.worker().await?;
    scene.took_effect(6).await?;
    // A second member takes its share, and the first goes.
    let second = scene.worker().await?;
    scene.send_all(NOTES, &notes(&["c", "d"], 3)).await?;
    scene.took_effect(12).await?;
    worker.stop().await?;
    scene.send_all(NOTES, &notes(&["e", "f"], 3)).await?;
    let mut effects = scene.took_effect(18).await?;
    effects.sort_unstable();
    effects.dedup();
    assert_eq!(effects.len(), 18, "each once");
    second.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_partition_is_another_ones_commits_nothing_and_joins_again() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let worker = scene.worker().await?;
    scene.send_all(NOTES, &notes(&["a", "b"], 1)).await?;
    scene.took_effect(2).await?;
    // As a successor does.
    sqlx::raw_sql("update inbox.fence set epoch = epoch + 1, owner = gen_random_uuid()")
        .execute(&scene.owner)
        .await?;
    scene.send_all(NOTES, &notes(&["c", "d"], 1)).await?;
    scene.took_effect(4).await?;
    assert!(scene.number("select min(epoch) from inbox.fence").await? >= 3, "a new epoch, not the old one");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_leaves_in_the_middle_another_takes_up() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let keys: Vec<String> = (0..10).map(|key| format!("k{key}-")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    scene.send_all(NOTES, &notes(&keys, 1_000)).await?;
    for so_far in [1, 3_000, 6_000] {
        let worker = scene.worker().await?;
        scene.took_effect(so_far).await?;
        worker.kill();
    }
    let worker = scene.worker().await?;
    let effects = scene.took_effect(10_000).await?;
    assert_eq!(effects.len(), 10_000, "each once");
    for key in keys {
        let of_key: Vec<_> = effects.iter().filter(|text| text.starts_with(key)).collect();
        assert!(of_key.iter().zip(1..).all(|(text, turn)| **text == format!("{key}{turn}")), "{of_key:?}");
    }
    worker.stop().await
}

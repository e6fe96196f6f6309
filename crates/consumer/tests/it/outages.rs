//! PostgreSQL away: nothing is anybody's fault, and all of it takes effect afterwards.

use testkit::Dedicated;

use crate::scene::{NOTES, Scene, notes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_postgres_is_away_records_wait_and_no_attempt_is_spent() -> anyhow::Result<()> {
    let mut postgres = Dedicated::postgres().await?;
    let scene = Scene::set_on(postgres.with_shared().await?).await?;
    let worker = scene.worker().await?;
    scene.send_all(NOTES, &notes(&["a", "b"], 3)).await?;
    scene.took_effect(6).await?;
    postgres.kill().await?;
    scene.send_all(NOTES, &notes(&["c", "d"], 2_000)).await?;
    worker.complains("batch transaction failed").await?;
    postgres.start().await?;
    let mut effects = scene.took_effect(4_006).await?;
    effects.sort_unstable();
    effects.dedup();
    assert_eq!(effects.len(), 4_006, "each once");
    assert_eq!(scene.number("select count(*) from inbox.dead_letter").await?, 0);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_is_no_fault_of_the_record() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.break_for("a1", "connection").await?;
    scene.send_all(NOTES, &notes(&["a"], 2)).await?;
    let worker = scene.worker().await?;
    worker.complains("batch transaction failed").await?;
    scene.mend().await?;
    assert_eq!(scene.took_effect(2).await?, ["a1", "a2"]);
    assert_eq!(scene.number("select count(*) from inbox.dead_letter").await?, 0);
    worker.stop().await
}

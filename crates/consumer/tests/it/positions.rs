//! Where a partition goes on is PostgreSQL's to say. What Kafka has lost is never passed over in silence.

use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminOptions, NewTopic, TopicReplication},
    types::RDKafkaErrorCode,
};
use testkit::until;

use crate::scene::{NOTES, PARTITIONS, Scene, WITHIN, notes, partition_of};

/// Has three records of one key take effect, and stops.
async fn three(scene: &Scene) -> anyhow::Result<()> {
    scene.send_all(NOTES, &notes(&["a"], 3)).await?;
    let worker = scene.worker().await?;
    scene.took_effect(3).await?;
    worker.stop().await
}

async fn accept(scene: &Scene) -> anyhow::Result<()> {
    let accept = "select inbox.accept_offsets($1, $2, 'tests', 'because')";
    let accepted: i64 = sqlx::query_scalar(accept)
        .bind(format!("{}notes", scene.kafka.prefix))
        .bind(format!("{}{NOTES}", scene.kafka.prefix))
        .fetch_one(&scene.operator)
        .await?;
    anyhow::ensure!(accepted == 1, "{accepted} partitions");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_restored_reads_again_what_it_has_forgotten() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    three(&scene).await?;
    // As after the first record.
    sqlx::raw_sql(
        "delete from effect where text <> 'a1'; delete from inbox.message where \"offset\" > 0;
         update inbox.fence set next_offset = 1",
    )
    .execute(&scene.owner)
    .await?;
    scene.send(NOTES, "a", "a4").await?;
    let worker = scene.worker().await?;
    assert_eq!(scene.took_effect(4).await?, ["a1", "a2", "a3", "a4"]);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_were_deleted_before_they_were_read_are_an_incident() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    three(&scene).await?;
    scene
        .send_all(NOTES, &[("a".into(), "a4".into()), ("a".into(), "a5".into()), ("a".into(), "a6".into())])
        .await?;
    let topic = format!("{}{NOTES}", scene.kafka.prefix);
    let mut deleted = TopicPartitionList::new();
    deleted.add_partition_offset(&topic, partition_of("a"), Offset::Offset(5))?;
    scene.admin()?.delete_records(&deleted, &AdminOptions::new()).await?;
    let worker = scene.worker().await?;
    worker.complains("offset 3 to 4 were deleted before they were read").await?;
    assert_eq!(scene.effects().await?.len(), 3);
    accept(&scene).await?;
    assert_eq!(scene.took_effect(4).await?[3], "a6");
    until("the incident is over", WITHIN, || async {
        Ok(worker.heartbeat.trouble().is_none().then_some(()))
    })
    .await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_made_again_is_an_incident() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    three(&scene).await?;
    let (admin, topic) = (scene.admin()?, format!("{}{NOTES}", scene.kafka.prefix));
    admin.delete_topics(&[&topic], &AdminOptions::new()).await?;
    until("the topic is made again", WITHIN, || async {
        let new = NewTopic::new(&topic, PARTITIONS, TopicReplication::Fixed(1));
        match admin.create_topics([&new], &AdminOptions::new()).await?.remove(0) {
            Ok(_) => Ok(Some(())),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => Ok(None),
            Err((topic, code)) => anyhow::bail!("{topic}: {code}"),
        }
    })
    .await?;
    until("it takes records", WITHIN, || async { Ok(scene.send(NOTES, "a", "new").await.ok()) }).await?;
    let worker = scene.worker().await?;
    worker.complains("the topic was deleted and made again").await?;
    assert_eq!(scene.effects().await?.len(), 3);
    accept(&scene).await?;
    assert_eq!(scene.took_effect(4).await?[3], "new");
    worker.stop().await
}

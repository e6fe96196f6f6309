//! The inbox remembers 28 days, and then makes room.

use uuid::Uuid;

use crate::scene::Scene;

const INSERT: &str = "insert into inbox.message (slot, consumer, source, id, topic, partition, \"offset\")
    select (days % 32)::smallint, 'c', 's', $2, 't', 0, 0
    from (select floor(extract(epoch from clock_timestamp()) / 86400)::bigint - $1 as days) as day";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaf_is_cleared_once_nothing_in_it_can_be_asked_for() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let app = scene.pool("app", 1).await?;
    for age in -1_i64..=30 {
        sqlx::query(INSERT).bind(age).bind(Uuid::now_v7().to_string()).execute(&app).await?;
    }
    let cleared: i32 = sqlx::query_scalar("select inbox.clear_expired()").fetch_one(&app).await?;
    // Days 29 and 30 ago are outside, tomorrow to 28 days ago inside.
    assert_eq!((cleared, scene.number("select count(*) from inbox.message").await?), (2, 30));
    let cleared: i32 = sqlx::query_scalar("select inbox.clear_expired()").fetch_one(&app).await?;
    assert_eq!(cleared, 0);
    Ok(())
}

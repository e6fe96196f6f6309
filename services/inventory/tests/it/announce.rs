//! The daily repetition of the catalogue.

use std::time::Duration;

use inventory::announce;
use testkit::until;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::scene::Scene;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn a_product_is_announced_again_when_its_day_is_over() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 1).await?;
    scene.add("jug", 1).await?;
    assert_eq!(scene.catalogue.announce(DAY).await?, (0, false));
    sqlx::query("update products set announced_at = now() - interval '24 hours' where product_id = 'mug'")
        .execute(&scene.pool)
        .await?;
    let before = scene.catalogue.product(&"mug".parse()?).await?;
    assert_eq!(scene.catalogue.announce(DAY).await?, (1, false));
    assert_eq!(scene.catalogue.announce(DAY).await?, (0, false));
    let after = scene.catalogue.product(&"mug".parse()?).await?;
    assert_eq!(after, inventory::domain::Product { version: 2, ..before });
    assert_eq!(scene.told("product-events", "mug").await?.len(), 2);
    assert_eq!(scene.told("product-events", "jug").await?.len(), 1);
    scene.check_invariants().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_many_announce_each_product_is_announced_once() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for position in 0..250 {
        scene.add(&format!("p-{position}"), 0).await?;
    }
    sqlx::query("update products set announced_at = now() - interval '25 hours'")
        .execute(&scene.pool)
        .await?;
    let mut announcers = JoinSet::new();
    for _ in 0..4 {
        let catalogue = scene.catalogue.clone();
        announcers.spawn(async move {
            let mut announced = 0;
            for _ in 0..4 {
                announced += catalogue.announce(DAY).await?.0;
            }
            anyhow::Ok(announced)
        });
    }
    let mut announced = 0;
    while let Some(count) = announcers.join_next().await {
        announced += count??;
    }
    assert_eq!(announced, 250);
    assert_eq!(scene.count("select count(*) from products where version = 2").await?, 250);
    scene.check_invariants().await
}

#[tokio::test]
async fn the_service_announces_by_itself_until_it_is_stopped() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 1).await?;
    let (catalogue, stop) = (scene.catalogue.clone(), CancellationToken::new());
    let stopped = stop.clone();
    let announcer =
        tokio::spawn(async move { announce::run(&catalogue, Duration::from_millis(50), stopped).await });
    until("the product is announced again", Duration::from_secs(20), || async {
        Ok((scene.told("product-events", "mug").await?.len() >= 3).then_some(()))
    })
    .await?;
    stop.cancel();
    announcer.await?;
    scene.check_invariants().await
}

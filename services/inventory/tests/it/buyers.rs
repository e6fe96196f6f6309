//! Many buyers at once, and how units find them.

use std::collections::BTreeMap;

use tokio::task::JoinSet;
use uuid::Uuid;

use crate::scene::{Ask, Scene, batch, handler, item, record};

/// As many partitions as the topic has.
const PARTITIONS: i32 = 12;

fn mugs(quantity: i32) -> Ask {
    Ask::Reserve(vec![item("mug", quantity)])
}

/// Every command in a transaction of its own, all at once; counts the answers.
async fn rush(scene: &Scene, orders: &[Uuid], ask: Ask) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut buyers = JoinSet::new();
    for (partition, order_id) in (0..PARTITIONS).cycle().zip(orders) {
        let (pool, message) = (scene.pool.clone(), record(partition, *order_id, ask.clone()));
        buyers.spawn(async move { batch(&pool, &[message]).await });
    }
    let mut answers = BTreeMap::new();
    while let Some(told) = buyers.join_next().await {
        for answer in told?? {
            *answers.entry(answer).or_default() += 1;
        }
    }
    Ok(answers)
}

fn orders(count: usize) -> Vec<Uuid> {
    (0..count).map(|_| Uuid::now_v7()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_hundred_buyers_one_gets_the_last_unit() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 1).await?;
    let answers = rush(&scene, &orders(200), mugs(1)).await?;
    let expected = [("1 StockRejected OUT_OF_STOCK mug".to_owned(), 199), ("1 StockReserved".to_owned(), 1)];
    assert_eq!(answers, BTreeMap::from(expected));
    assert_eq!(scene.stock("mug").await?, (0, 1));
    scene.check_invariants().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_hundred_buyers_in_batches_one_gets_the_last_unit() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 1).await?;
    let mut workers = JoinSet::new();
    for (partition, orders) in (0..PARTITIONS).cycle().zip(orders(200).chunks(10)) {
        let records: Vec<_> = orders.iter().map(|order_id| record(partition, *order_id, mugs(1))).collect();
        let pool = scene.pool.clone();
        workers.spawn(async move { batch(&pool, &records).await });
    }
    let mut answers = BTreeMap::<String, usize>::new();
    while let Some(told) = workers.join_next().await {
        for answer in told?? {
            *answers.entry(answer).or_default() += 1;
        }
    }
    let expected = [("1 StockRejected OUT_OF_STOCK mug".to_owned(), 199), ("1 StockReserved".to_owned(), 1)];
    assert_eq!(answers, BTreeMap::from(expected));
    assert_eq!(scene.stock("mug").await?, (0, 1));
    scene.check_invariants().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rush_sells_exactly_what_is_there() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 100).await?;
    let orders = orders(160);
    let answers = rush(&scene, &orders, mugs(1)).await?;
    assert_eq!(answers.get("1 StockReserved"), Some(&100), "{answers:?}");
    assert_eq!(scene.stock("mug").await?, (0, 100));
    scene.check_invariants().await?;
    let answers = rush(&scene, &orders, Ask::Release).await?;
    assert_eq!(answers, BTreeMap::from([("2 StockReleased".to_owned(), 160)]));
    assert_eq!(scene.stock("mug").await?, (100, 0));
    scene.check_invariants().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn orders_of_the_same_products_do_not_hinder_each_other() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 10_000).await?;
    scene.add("jug", 10_000).await?;
    let both = |ids: [&str; 2]| Ask::Reserve(ids.map(|id| item(id, 1)).to_vec());
    let mut buyers = JoinSet::new();
    for (position, partition) in (0..60).zip((0..3).cycle()) {
        let ids = if position % 2 == 0 { ["mug", "jug"] } else { ["jug", "mug"] };
        let (pool, message) = (scene.pool.clone(), record(partition, Uuid::now_v7(), both(ids)));
        buyers.spawn(async move { batch(&pool, &[message]).await });
    }
    while let Some(told) = buyers.join_next().await {
        assert_eq!(told??, ["1 StockReserved"]);
    }
    assert_eq!((scene.stock("mug").await?, scene.stock("jug").await?), ((9_940, 60), (9_940, 60)));
    scene.check_invariants().await
}

#[tokio::test]
async fn workers_of_different_partitions_do_not_wait_for_each_other() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 1_600).await?;
    let mut busy = outbox::UnitOfWork::begin(&scene.pool).await?;
    let message = record(4, Uuid::now_v7(), mugs(1));
    consumer::Handler::handle(&handler(), &mut busy, &message).await?;
    // The other transaction is open, and its bucket locked: enough is found elsewhere.
    assert_eq!(scene.ask_in(5, Uuid::now_v7(), mugs(1_000)).await?, "1 StockReserved");
    drop(busy);
    scene.check_invariants().await
}

#[tokio::test]
async fn a_bucket_that_runs_empty_gets_its_share_of_the_others() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 160).await?;
    let own = "select available from stock where product_id = 'mug' and bucket = 4";
    assert_eq!(scene.count(own).await?, 10);
    for units in [6, 4] {
        assert_eq!(scene.ask_in(4, Uuid::now_v7(), mugs(units)).await?, "1 StockReserved");
    }
    assert_eq!(scene.count(own).await?, 0);
    assert_eq!(scene.ask_in(4, Uuid::now_v7(), mugs(6)).await?, "1 StockReserved");
    assert_eq!(scene.count(own).await?, 9, "144 are left for 16 buckets");
    assert_eq!(scene.ask_in(4, Uuid::now_v7(), mugs(144)).await?, "1 StockReserved");
    assert_eq!(scene.ask_in(4, Uuid::now_v7(), mugs(1)).await?, "1 StockRejected OUT_OF_STOCK mug");
    assert_eq!(scene.stock("mug").await?, (0, 160));
    scene.check_invariants().await
}

#[tokio::test]
async fn an_order_of_many_products_gathers_each_of_them() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for (product_id, units) in [("mug", 16), ("jug", 3), ("pen", 1_000)] {
        scene.add(product_id, units).await?;
    }
    let everything = vec![item("pen", 30), item("mug", 16), item("jug", 3)];
    assert_eq!(scene.ask_in(9, Uuid::now_v7(), Ask::Reserve(everything.clone())).await?, "1 StockReserved");
    assert_eq!(scene.stock("pen").await?, (970, 30));
    let refused = scene.ask_in(9, Uuid::now_v7(), Ask::Reserve(everything)).await?;
    assert_eq!(refused, "1 StockRejected OUT_OF_STOCK mug");
    scene.check_invariants().await
}

#[tokio::test]
async fn the_database_itself_refuses_to_oversell() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 1).await?;
    for sql in ["update stock set available = available - 2", "update stock set reserved = reserved - 1"] {
        let error = sqlx::query(sql).execute(&scene.superuser).await.expect_err(sql);
        assert_eq!(
            error.as_database_error().and_then(|error| error.code()).as_deref(),
            Some("23514"),
            "{sql}"
        );
    }
    Ok(())
}

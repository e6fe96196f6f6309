//! Random schedules: commands of a few orders over a few products, repeated, reordered, in batches and at once.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::scene::{Ask, Scene, batch, item, record};

const PRODUCTS: [(&str, i64); 3] = [("mug", 12), ("jug", 5), ("pen", 40)];

/// What an order asks for; `jar` is not in the catalogue.
fn items(random: &mut StdRng) -> Vec<proto::inventory::v1::StockItem> {
    let ids = ["mug", "jug", "pen", "pen", "mug", "jar"];
    let lines = random.random_range(1..=3);
    (0..lines)
        .map(|_| {
            // One line in twenty is not sold.
            let known = if random.random_range(0..20) == 0 { 6 } else { 5 };
            item(ids[random.random_range(0..known)], random.random_range(1..=4))
        })
        .collect()
}

/// One order's commands, in any order and as often as may be.
fn commands(random: &mut StdRng) -> Vec<Ask> {
    let items = items(random);
    let count = random.random_range(1..=6);
    (0..count)
        .map(|position| match random.random_range(0..10) {
            0..=3 => Ask::Reserve(items.clone()),
            // Most begin as they should.
            _ if position == 0 && random.random_range(0..4) != 0 => Ask::Reserve(items.clone()),
            4 => Ask::ReserveLate(items.clone()),
            5..=7 => Ask::Commit,
            _ => Ask::Release,
        })
        .collect()
}

/// Each partition's records in their order; an order stays in its partition.
fn schedule(random: &mut StdRng, orders: usize) -> Vec<Vec<consumer::Message>> {
    let mut waiting: Vec<(i32, Uuid, Vec<Ask>)> =
        (0..orders).map(|_| (random.random_range(0..4), Uuid::now_v7(), commands(random))).collect();
    let mut partitions = vec![Vec::new(); 4];
    while !waiting.is_empty() {
        let next = random.random_range(0..waiting.len());
        let (partition, order_id, asks) = &mut waiting[next];
        let ask = asks.remove(0);
        let again = random.random_range(0..5) == 0;
        partitions[*partition as usize].push(record(*partition, *order_id, ask.clone()));
        if again {
            partitions[*partition as usize].push(record(*partition, *order_id, ask));
        }
        if asks.is_empty() {
            waiting.swap_remove(next);
        }
    }
    partitions
}

async fn stocked() -> anyhow::Result<Scene> {
    let scene = Scene::set().await?;
    for (product_id, units) in PRODUCTS {
        scene.add(product_id, units).await?;
    }
    Ok(scene)
}

#[tokio::test]
async fn whatever_comes_in_whatever_order_no_unit_is_lost_or_sold_twice() -> anyhow::Result<()> {
    for seed in 0..12 {
        let mut random = StdRng::seed_from_u64(seed);
        let scene = stocked().await?;
        let mut partitions = schedule(&mut random, 12);
        while partitions.iter().any(|records| !records.is_empty()) {
            let partition = random.random_range(0..partitions.len());
            let count = random.random_range(1..=4).min(partitions[partition].len());
            let records: Vec<_> = partitions[partition].drain(..count).collect();
            scene.batch(&records).await.map_err(|error| error.context(format!("seed {seed}")))?;
            scene.check_invariants().await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_holds_when_partitions_are_worked_on_at_once() -> anyhow::Result<()> {
    for seed in 100..106 {
        let mut random = StdRng::seed_from_u64(seed);
        let scene = stocked().await?;
        let mut workers = JoinSet::new();
        for records in schedule(&mut random, 24) {
            let pool = scene.pool.clone();
            workers.spawn(async move {
                for records in records.chunks(3) {
                    batch(&pool, records).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker?.map_err(|error| error.context(format!("seed {seed}")))?;
        }
        scene.check_invariants().await?;
    }
    Ok(())
}

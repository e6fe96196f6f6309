//! What a product that everybody buys costs, and what handling a batch together saves. A measurement, run by hand:
//! `cargo test --release -p inventory --test it -- --ignored --nocapture measure`

use std::time::Instant;

use tokio::task::JoinSet;
use uuid::Uuid;

use crate::scene::{Ask, Scene, Way, item, record, run};

/// Orders of each worker in one round.
const ORDERS: usize = 2_000;
/// Records of a batch, as in production.
const BATCH: usize = 500;
/// Products that are not hot.
const PRODUCTS: usize = 1_000;
/// The kinds take turns, so that what else the machine does meets them all; the best round of each counts.
const ROUNDS: usize = 4;

/// What the orders are for.
#[derive(Clone, Copy, Debug)]
enum Load {
    /// All for one product.
    Hot,
    /// For each product in turn.
    Cold,
    /// The same, but every twentieth for a product that is sold out.
    PartlySoldOut,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "a measurement"]
async fn measure_one_hot_product_and_many_cold_ones() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("hot", 1_000_000_000).await?;
    scene.add("gone", 0).await?;
    for position in 0..PRODUCTS {
        scene.add(&format!("p-{position}"), 1_000_000).await?;
    }
    let mut kinds = Vec::new();
    for way in [Way::Apart, Way::Together] {
        for load in [Load::Hot, Load::Cold, Load::PartlySoldOut] {
            kinds.extend([1, 2].map(|workers| (way, load, workers)));
        }
    }
    let mut best = vec![0.0_f64; kinds.len()];
    for _ in 0..ROUNDS {
        for ((way, load, workers), best) in kinds.iter().zip(&mut best) {
            *best = best.max(rate(&scene, *way, *load, *workers).await?);
        }
    }
    scene.check_invariants().await?;
    #[expect(clippy::print_stdout, reason = "a measurement tells its result")]
    for ((way, load, workers), best) in kinds.into_iter().zip(best) {
        println!("{way:?}, {load:?}, workers: {workers}: {best:.0} ReserveStock/s");
    }
    Ok(())
}

/// Effects a second of so many workers, each with a partition of its own.
async fn rate(scene: &Scene, way: Way, load: Load, workers: i32) -> anyhow::Result<f64> {
    let mut running = JoinSet::new();
    let started = Instant::now();
    for partition in 0..workers {
        let pool = scene.pool.clone();
        running.spawn(async move {
            for first in (0..ORDERS).step_by(BATCH) {
                let reserve = |position: usize| {
                    let id = match load {
                        Load::Hot => "hot".to_owned(),
                        Load::PartlySoldOut if position.is_multiple_of(20) => "gone".to_owned(),
                        Load::Cold | Load::PartlySoldOut => format!("p-{}", position % PRODUCTS),
                    };
                    record(partition, Uuid::now_v7(), Ask::Reserve(vec![item(&id, 1)]))
                };
                let records: Vec<_> = (first..first + BATCH).map(reserve).collect();
                run(&pool, &records, way).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(worker) = running.join_next().await {
        worker??;
    }
    Ok(ORDERS as f64 * f64::from(workers) / started.elapsed().as_secs_f64())
}

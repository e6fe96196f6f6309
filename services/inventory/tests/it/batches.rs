//! A batch leaves behind what its records would, one after the other.

use prost::Message as _;
use proto::inventory::v1::{ShipmentScheduled, StockItem, UpdateProductRequest};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use uuid::Uuid;

use crate::scene::{Ask, Scene, item, product, record};

/// Units at the beginning: one sold out, one soon, one in few buckets, one that there is plenty of, one archived.
const PRODUCTS: [(&str, i64); 5] = [("gone", 0), ("few", 20), ("some", 100), ("many", 100_000), ("old", 50)];
const ARCHIVED: &str = "old";
const PARTITIONS: i32 = 5;

/// An order of the schedule: what it asks for, and where its records are read from.
struct Order {
    id: Uuid,
    partition: i32,
    items: Vec<StockItem>,
}

async fn stocked() -> anyhow::Result<Scene> {
    let scene = Scene::set().await?;
    for (product_id, units) in PRODUCTS {
        scene.add(product_id, units).await?;
    }
    let product = Some(proto::inventory::v1::Product { archived: true, ..product(ARCHIVED) });
    scene.api.clone().update_product(UpdateProductRequest { product, update_mask: None }).await?;
    Ok(scene)
}

/// Mostly of what there is plenty of, so that not every batch runs out of something.
fn items(random: &mut StdRng) -> Vec<StockItem> {
    let lines = random.random_range(1..=3);
    let line = |_| {
        let product_id = match random.random_range(0..40) {
            0 | 1 => "gone",
            2 | 3 => "few",
            4..=7 => "some",
            8 => ARCHIVED,
            9 => "unknown",
            _ => "many",
        };
        item(product_id, random.random_range(1..=4))
    };
    (0..lines).map(line).collect()
}

/// The next records: of new orders, and of those of earlier batches. Some are repeated, some come too early.
fn schedule(random: &mut StdRng, orders: &mut Vec<Order>, count: usize) -> Vec<consumer::Message> {
    // A batch comes from one partition or from several.
    let only = (random.random_range(0..2) == 0).then(|| random.random_range(0..PARTITIONS));
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        if orders.is_empty() || random.random_range(0..2) == 0 {
            let partition = only.unwrap_or_else(|| random.random_range(0..PARTITIONS));
            let id = Uuid::from_u128(random.random());
            orders.push(Order { id, partition, items: items(random) });
            if random.random_range(0..8) != 0 {
                let Order { id, partition, items } = &orders[orders.len() - 1];
                records.push(record(*partition, *id, Ask::Reserve(items.clone())));
                continue;
            }
        }
        // More often one of the newest.
        let newest = orders.len().min(12);
        let from = if random.random_range(0..4) == 0 { 0 } else { orders.len() - newest };
        let Order { id, partition, items } = &orders[random.random_range(from..orders.len())];
        let ask = match random.random_range(0..10) {
            0 => Ask::Reserve(items.clone()),
            1 => Ask::ReserveLate(items.clone()),
            2..=5 => Ask::Commit,
            _ => Ask::Release,
        };
        records.push(record(*partition, *id, ask));
    }
    records
}

/// Every reservation and bucket, without times and the shipments' ids.
async fn rows(scene: &Scene) -> anyhow::Result<Vec<String>> {
    let sql = "select (to_jsonb(r) - 'shipment_id' - 'created_at' - 'updated_at'
                 || jsonb_build_object('shipped', shipment_id is not null))::text
         from reservations r
         union all
         select to_jsonb(s)::text from stock s
         order by 1";
    Ok(sqlx::query_scalar(sql).fetch_all(&scene.superuser).await?)
}

/// Every answer about an order, without the shipments' ids.
async fn told(scene: &Scene, order_id: Uuid) -> anyhow::Result<Vec<(i64, String, Vec<u8>)>> {
    let mut told = scene.told("stock-results", &order_id.to_string()).await?;
    for (_, name, payload) in &mut told {
        if name == "ShipmentScheduled" {
            let scheduled = ShipmentScheduled::decode(payload.as_slice())?;
            *payload = ShipmentScheduled { shipment_id: String::new(), ..scheduled }.encode_to_vec();
        }
    }
    Ok(told)
}

#[tokio::test]
async fn a_batch_leaves_the_same_rows_and_answers_as_its_records_one_by_one() -> anyhow::Result<()> {
    for seed in 0..10 {
        let mut random = StdRng::seed_from_u64(seed);
        let (together, apart) = (stocked().await?, stocked().await?);
        let mut orders = Vec::new();
        for round in 0..12 {
            let count = random.random_range(2..=40);
            let records = schedule(&mut random, &mut orders, count);
            let answers = together.batch(&records).await?;
            assert_eq!(answers, apart.one_by_one(&records).await?, "seed {seed}, batch {round}");
            assert_eq!(rows(&together).await?, rows(&apart).await?, "seed {seed}, batch {round}");
            together.check_invariants().await?;
        }
        for order in orders {
            assert_eq!(told(&together, order.id).await?, told(&apart, order.id).await?, "seed {seed}");
        }
    }
    Ok(())
}

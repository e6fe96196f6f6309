//! The order service's own view of the catalogue, from the records of `product-events`.

use prost::{Message as _, Name as _};
use proto::{inventory::v1::ProductUpserted, money::v1::Money};
use tonic::Code;
use uuid::Uuid;

use crate::{
    records::{PRODUCT_EVENTS, Records},
    scene::{Scene, body, create, item, refusal},
};

fn abacus(version: i32, minor: i64) -> ProductUpserted {
    ProductUpserted {
        product_id: "abacus".into(),
        name: "Abacus".into(),
        price: Some(Money { currency: "EUR".into(), minor }),
        archived: false,
        version,
    }
}

/// What an abacus costs an order that names no price.
async fn price(scene: &Scene) -> Result<i64, (Code, String)> {
    let mut item = item("abacus", 1, 0);
    item.unit_price = None;
    let request = proto::order::v1::CreateOrderRequest { items: vec![item], ..body() };
    let order = create(&scene.api, request).await.map_err(|status| refusal(&status))?;
    Ok(order.total.expect("an order has a total").minor)
}

#[tokio::test]
async fn a_product_is_sold_at_the_price_of_its_newest_version() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let unknown = Err((Code::NotFound, "PRODUCT_NOT_FOUND".to_owned()));
    assert_eq!(price(&scene).await, unknown);
    let records = Records::begin(&scene).await?;
    records.send(&abacus(2, 900)).await?;
    records.settle().await?;
    assert_eq!(price(&scene).await, Ok(900));
    // What comes late, and the daily repeat of what is known.
    for told in [abacus(1, 100), abacus(2, 900)] {
        records.send(&told).await?;
    }
    records.settle().await?;
    assert_eq!(price(&scene).await, Ok(900));
    records.send(&abacus(3, 1_000)).await?;
    records.settle().await?;
    assert_eq!(price(&scene).await, Ok(1_000));
    records.send(&ProductUpserted { archived: true, ..abacus(4, 1_000) }).await?;
    records.settle().await?;
    assert_eq!(price(&scene).await, unknown);
    records.send(&abacus(5, 1_100)).await?;
    records.settle().await?;
    assert_eq!(price(&scene).await, Ok(1_100));
    records.end().await
}

#[tokio::test]
async fn a_product_that_cannot_be_right_becomes_a_dead_letter_and_is_not_sold() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let records = Records::begin(&scene).await?;
    let currency = Some(Money { currency: "EURO".into(), minor: 900 });
    let good = abacus(1, 900);
    for (what, payload) in [
        (
            "no name to order it by",
            ProductUpserted { product_id: "a b".into(), ..good.clone() }.encode_to_vec(),
        ),
        ("no price", ProductUpserted { price: None, ..good.clone() }.encode_to_vec()),
        ("a price of nothing", abacus(1, 0).encode_to_vec()),
        ("no currency", ProductUpserted { price: currency, ..good }.encode_to_vec()),
        ("no version", abacus(0, 900).encode_to_vec()),
        ("rubbish", b"rubbish".to_vec()),
    ] {
        let poison = Uuid::now_v7();
        records.send_raw(PRODUCT_EVENTS, poison, &ProductUpserted::full_name(), &payload).await?;
        assert!(!records.dead(poison).await?.is_empty(), "{what}");
    }
    assert_eq!(scene.count("select count(*) from products").await?, 2);
    records.end().await
}

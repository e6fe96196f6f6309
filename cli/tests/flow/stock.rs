//! Products of which there are not enough for everybody.

use std::time::Duration;

use anyhow::Context as _;
use cli::catalogue::{Offer, SOLD_OUT};
use proto::{
    inventory::v1::GetStockRequest,
    notification::v1::NotificationKind::OrderRejected,
    order::v1::{ListOrdersRequest, Order, OrderStatus, StatusReason},
};
use testkit::{Platform, until};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::client::{
    Inventory, SETTLE, insist, inventory, offer, one, orders, platform, reached, shipped, stock, told,
};

const BUYERS: usize = 200;
const LAST: Offer = Offer { id: "last-one", name: "The last one", minor: 100, units: 1 };

#[tokio::test]
async fn what_is_sold_out_is_rejected_before_anything_is_charged() -> anyhow::Result<()> {
    let platform = platform().await?;
    let request = one(SOLD_OUT.id, Some(SOLD_OUT.price()));
    let order =
        orders(&platform).await?.create_order(request).await?.into_inner().order.context("an order")?;
    let answer = reached(&platform, &order.order_id, OrderStatus::Rejected).await?;
    assert_eq!(answer.order.context("an order")?.status_reason(), StatusReason::OutOfStock);
    let history: Vec<_> = answer.history.iter().map(|step| step.event.as_str()).collect();
    assert_eq!(history, ["OrderPlaced", "OrderRejected"]);
    assert_eq!(told(&platform, &order.order_id, 1).await?, [OrderRejected]);
    assert_eq!(payments(&platform).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_200_who_buy_the_last_one_at_once_one_gets_it() -> anyhow::Result<()> {
    let mut platform = platform().await?;
    // So many at once may keep a busy machine from answering in time.
    platform.expect_log("database");
    offer(&platform, &[LAST]).await?;
    let done = CancellationToken::new();
    let watched = tokio::spawn(never_below_zero(inventory(&platform).await?, done.clone()));
    let client = orders(&platform).await?;
    let mut buyers = JoinSet::new();
    for buyer in 0..BUYERS {
        let client = client.clone();
        let mut request = one(LAST.id, Some(LAST.price()));
        request.customer_id = format!("cust-{buyer}");
        request.request_id = Uuid::new_v4().to_string();
        buyers.spawn(async move { insist(client, request).await });
    }
    while let Some(placed) = buyers.join_next().await {
        placed??;
    }
    let ends = until("everybody has an answer", SETTLE, || {
        let mut client = client.clone();
        async move {
            let all = ListOrdersRequest { page_size: 1_000, ..Default::default() };
            let orders = client.list_orders(all).await?.into_inner().orders;
            let ended = [OrderStatus::Confirmed, OrderStatus::Rejected, OrderStatus::Cancelled];
            Ok(orders.iter().all(|order| ended.contains(&order.status())).then_some(orders))
        }
    })
    .await?;
    let (got, others): (Vec<Order>, Vec<Order>) =
        ends.into_iter().partition(|order| order.status() == OrderStatus::Confirmed);
    let [got] = got.as_slice() else { anyhow::bail!("not one but {} got the last one", got.len()) };
    let out_of_stock = (OrderStatus::Rejected, StatusReason::OutOfStock);
    assert_eq!(others.len(), BUYERS - 1);
    assert!(others.iter().all(|order| (order.status(), order.status_reason()) == out_of_stock));
    shipped(&platform, &got.order_id).await?;
    done.cancel();
    assert!(watched.await?? > 0, "nobody has looked");
    let left = stock(&platform, LAST.id).await?;
    assert_eq!((left.on_hand, left.reserved, left.available), (0, 0, 0));
    assert_eq!(payments(&platform).await?, 1);
    Ok(())
}

/// Looks at the last one's stock again and again, and counts how often.
async fn never_below_zero(mut client: Inventory, done: CancellationToken) -> anyhow::Result<usize> {
    let mut looks = 0;
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    while !done.is_cancelled() {
        pace.tick().await;
        let request = GetStockRequest { product_id: LAST.id.to_owned() };
        let stock = client.get_stock(request).await?.into_inner().stock.context("stock")?;
        let least = stock.on_hand.min(stock.reserved).min(stock.available);
        anyhow::ensure!(least >= 0 && stock.on_hand <= 1, "{stock:?}");
        looks += 1;
    }
    Ok(looks)
}

async fn payments(platform: &Platform) -> anyhow::Result<i64> {
    let pool = platform.billing.superuser().await?;
    let count = sqlx::query_scalar("select count(*) from payments").fetch_one(&pool).await?;
    pool.close().await;
    Ok(count)
}

//! `AdjustStock` and `GetStock`: what is counted by hand.

use proto::inventory::v1::{AdjustStockRequest, GetStockRequest, Stock};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::scene::{Ask, Client, Scene, fields, item, refusal};

async fn adjust(api: &Client, request: AdjustStockRequest) -> Result<Stock, Status> {
    Ok(api.clone().adjust_stock(request).await?.into_inner().stock.expect("a stock"))
}

fn count(delta: i64) -> AdjustStockRequest {
    AdjustStockRequest {
        product_id: "mug".to_owned(),
        delta,
        reason: "delivery".to_owned(),
        request_id: Uuid::now_v7().to_string(),
    }
}

fn numbers(stock: &Stock) -> (i64, i64, i64) {
    (stock.on_hand, stock.reserved, stock.available)
}

#[tokio::test]
async fn units_are_counted_in_and_out_with_a_reason() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 10).await?;
    scene.ask(Uuid::now_v7(), Ask::Reserve(vec![item("mug", 4)])).await?;
    assert_eq!(numbers(&adjust(&scene.api, count(90)).await?), (100, 4, 96));
    assert_eq!(numbers(&adjust(&scene.api, count(-96)).await?), (4, 4, 0));
    assert_eq!(scene.stock("mug").await?, (0, 4));
    assert_eq!(scene.count("select count(*) from adjustments where reason = 'delivery'").await?, 2);
    scene.check_invariants().await
}

#[tokio::test]
async fn what_is_counted_in_lies_in_every_bucket() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 0).await?;
    adjust(&scene.api, count(35)).await?;
    let spread = "select max(available) - min(available) from stock where product_id = 'mug'";
    assert_eq!(scene.count(spread).await?, 1);
    Ok(())
}

#[tokio::test]
async fn what_is_reserved_or_not_there_is_not_counted_out() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 10).await?;
    scene.ask(Uuid::now_v7(), Ask::Reserve(vec![item("mug", 4)])).await?;
    let request = count(-7);
    let refused = adjust(&scene.api, request.clone()).await.expect_err("only six are available");
    assert_eq!(refusal(&refused), (Code::FailedPrecondition, "INSUFFICIENT_STOCK".to_owned()));
    assert!(refused.message().contains("only 6 units"), "{refused}");
    assert_eq!(scene.stock("mug").await?, (6, 4));
    // It was not counted, so that it can be once there is enough.
    adjust(&scene.api, count(1)).await?;
    assert_eq!(numbers(&adjust(&scene.api, request).await?), (4, 4, 0));
    scene.check_invariants().await
}

#[tokio::test]
async fn a_repeated_adjustment_counts_once_and_answers_with_the_stock_as_it_is() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 10).await?;
    let request = count(5);
    assert_eq!(numbers(&adjust(&scene.api, request.clone()).await?), (15, 0, 15));
    scene.ask(Uuid::now_v7(), Ask::Reserve(vec![item("mug", 4)])).await?;
    assert_eq!(numbers(&adjust(&scene.api, request.clone()).await?), (15, 4, 11));
    let upper = AdjustStockRequest { request_id: request.request_id.to_uppercase(), ..request };
    assert_eq!(numbers(&adjust(&scene.api, upper).await?), (15, 4, 11));
    scene.check_invariants().await
}

#[tokio::test]
async fn a_request_id_counts_one_thing_only() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 10).await?;
    scene.add("jug", 10).await?;
    let request = count(5);
    adjust(&scene.api, request.clone()).await?;
    for other in [
        AdjustStockRequest { delta: 6, ..request.clone() },
        AdjustStockRequest { product_id: "jug".to_owned(), ..request.clone() },
        AdjustStockRequest { reason: "theft".to_owned(), ..request.clone() },
    ] {
        let refused = adjust(&scene.api, other).await.expect_err("another body");
        assert_eq!(refusal(&refused), (Code::AlreadyExists, "REQUEST_ID_REUSED".to_owned()));
    }
    assert_eq!((scene.stock("mug").await?, scene.stock("jug").await?), ((15, 0), (10, 0)));
    scene.check_invariants().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_adjustment_sent_by_many_at_once_counts_once() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 10).await?;
    let request = count(5);
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        let (api, request) = (scene.api.clone(), request.clone());
        callers.spawn(async move { adjust(&api, request).await });
    }
    while let Some(answer) = callers.join_next().await {
        assert_eq!(numbers(&answer??), (15, 0, 15));
    }
    scene.check_invariants().await
}

#[tokio::test]
async fn each_wrong_field_of_an_adjustment_is_named() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 10).await?;
    for (named, request) in [
        (&["product_id"][..], AdjustStockRequest { product_id: "a b".to_owned(), ..count(1) }),
        (&["delta"], count(0)),
        (&["delta"], count(i64::MAX)),
        (&["reason"], AdjustStockRequest { reason: String::new(), ..count(1) }),
        (&["reason"], AdjustStockRequest { reason: "r".repeat(201), ..count(1) }),
        (&["request_id"], AdjustStockRequest { request_id: String::new(), ..count(1) }),
        (&["product_id", "delta", "reason", "request_id"], AdjustStockRequest::default()),
    ] {
        assert_eq!(fields(&adjust(&scene.api, request).await.expect_err("a field is wrong")), named);
    }
    let unknown = (Code::NotFound, "PRODUCT_NOT_FOUND".to_owned());
    let jug = AdjustStockRequest { product_id: "jug".to_owned(), ..count(1) };
    assert_eq!(refusal(&adjust(&scene.api, jug).await.expect_err("unknown")), unknown);
    assert_eq!(refusal(&scene.stock("jug").await.expect_err("unknown")), unknown);
    let refused = scene.api.clone().get_stock(GetStockRequest::default()).await.expect_err("no id");
    assert_eq!(fields(&refused), ["product_id"]);
    assert_eq!(scene.stock("mug").await?, (10, 0));
    scene.check_invariants().await
}

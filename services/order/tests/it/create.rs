//! `CreateOrder`: an order is accepted once, with everything it says, or not at all.

use std::collections::HashSet;

use order::domain::Command;
use prost::Message as _;
use proto::{
    billing::v1::PaymentRequested,
    inventory::v1::{ReserveStock, StockItem},
    money::v1::Money,
    order::v1::{CreateOrderRequest, OrderCreated, OrderStatus, StatusReason},
};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::scene::{DEADLINES, Scene, body, create, fields, id, item, refusal};

/// Callers at a time: more than the pool has connections.
const CALLERS: usize = 24;

fn repeatable() -> CreateOrderRequest {
    CreateOrderRequest { request_id: Uuid::now_v7().to_string(), ..body() }
}

#[tokio::test]
async fn a_new_order_is_pending_and_told_to_all_who_need_it() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order =
        create(&scene.api, CreateOrderRequest { payment_token: "tok_secret".into(), ..body() }).await?;
    let order_id = id(&order)?;
    assert_eq!(order_id.get_version_num(), 7);
    assert_eq!((order.status(), order.version), (OrderStatus::Pending, 1));
    assert_eq!(order.status_reason(), StatusReason::Unspecified);
    let total = Some(Money { currency: "EUR".into(), minor: 11_248 });
    assert_eq!((&order.items, &order.total), (&body().items, &total));
    assert_eq!(order.create_time, order.update_time);
    assert_eq!(scene.history(order_id).await?, ["OrderPlaced"]);

    let told = scene.told(order_id).await?;
    let said: Vec<&str> = told.iter().map(|told| told.summary.as_str()).collect();
    assert_eq!(
        said,
        ["order-created 1 OrderCreated", "stock-requests 1 ReserveStock"],
        "billing is asked later"
    );
    let created = OrderCreated::decode(told[0].payload.as_slice())?;
    let expected = OrderCreated {
        order_id: order.order_id.clone(),
        customer_id: order.customer_id.clone(),
        items: order.items.clone(),
        total: total.clone(),
        create_time: order.create_time,
    };
    assert_eq!(created, expected);
    let not_after = order.create_time.map(|mut at| {
        at.seconds += DEADLINES.stock_deadline.as_secs() as i64;
        at
    });
    assert_eq!(order.deadline, not_after);
    let item = |product_id: &str, quantity| StockItem { product_id: product_id.into(), quantity };
    let items = vec![item("gaming-mouse", 2), item("mouse-pad", 1)];
    let expected = ReserveStock { order_id: order.order_id.clone(), items, not_after };
    assert_eq!(ReserveStock::decode(told[1].payload.as_slice())?, expected);

    scene.apply(order_id, Command::StockReserved).await?;
    let (order, _) = scene.get(order_id).await?;
    let told = scene.told(order_id).await?.split_off(2);
    let said: Vec<&str> = told.iter().map(|told| told.summary.as_str()).collect();
    assert_eq!(said, ["order-status 2 OrderStockReserved", "payment-requests 2 PaymentRequested"]);
    let not_after = order.update_time.map(|mut at| {
        at.seconds += DEADLINES.payment_deadline.as_secs() as i64;
        at
    });
    assert_eq!((order.status(), order.deadline), (OrderStatus::StockReserved, not_after));
    let expected = PaymentRequested {
        payment_id: order.payment_id,
        order_id: order.order_id,
        customer_id: order.customer_id,
        amount: total,
        payment_token: "tok_secret".into(),
        not_after,
    };
    assert_eq!(PaymentRequested::decode(told[1].payload.as_slice())?, expected);
    assert_eq!(
        scene.count("select count(*) from order_events where data::text like '%tok_secret%'").await?
            + scene.count("select count(*) from orders where orders::text like '%tok_secret%'").await?,
        0,
        "once billing has been asked, the token is kept as its hash only"
    );
    Ok(())
}

/// What a program learns about a product that cannot be ordered like this.
fn metadata(status: &Status) -> Vec<(String, String)> {
    let details = status.get_error_details();
    let info = details.error_info().expect("a refusal has its ErrorInfo");
    let mut metadata: Vec<(String, String)> = info.metadata.clone().into_iter().collect();
    metadata.sort();
    metadata
}

#[tokio::test]
async fn the_price_that_the_customer_has_seen_must_be_the_current_one() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let of = |minor| CreateOrderRequest { items: vec![item("gaming-mouse", 2, minor)], ..body() };
    for stale in [4_998, 5_000] {
        let status = create(&scene.api, of(stale)).await.expect_err("stale");
        assert_eq!(refusal(&status), (Code::FailedPrecondition, "PRICE_CHANGED".into()));
        let expected = [("currency", "EUR"), ("minor", "4999"), ("product_id", "gaming-mouse")];
        assert_eq!(metadata(&status), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert!(status.message().contains("gaming-mouse costs EUR 4999"), "{}", status.message());
    }
    let mut dollars = of(4_999);
    dollars.items[0].unit_price = Some(Money { currency: "USD".into(), minor: 4_999 });
    let status = create(&scene.api, dollars).await.expect_err("stale");
    assert_eq!(refusal(&status), (Code::FailedPrecondition, "PRICE_CHANGED".into()));

    scene.sell("gaming-mouse", "EUR", 5_499).await?;
    let status = create(&scene.api, of(4_999)).await.expect_err("stale by now");
    assert_eq!(refusal(&status), (Code::FailedPrecondition, "PRICE_CHANGED".into()));
    assert_eq!(create(&scene.api, of(5_499)).await?.total.map(|total| total.minor), Some(10_998));
    for sql in ["select count(*) from orders", "select count(*) from order_events"] {
        assert_eq!(scene.count(sql).await?, 1, "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn a_price_that_is_not_sent_is_the_current_one() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let mut request = body();
    request.items[0].unit_price = None;
    let order = create(&scene.api, request).await?;
    assert_eq!(order.items, body().items);
    assert_eq!(order.total, Some(Money { currency: "EUR".into(), minor: 11_248 }));
    assert_eq!(scene.get(id(&order)?).await?.0, order);
    Ok(())
}

#[tokio::test]
async fn what_the_catalogue_does_not_sell_cannot_be_ordered() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.archive("mouse-pad").await?;
    for gone in ["abacus", "mouse-pad"] {
        let items = vec![item("gaming-mouse", 1, 4_999), item(gone, 1, 1_250)];
        let status = create(&scene.api, CreateOrderRequest { items, ..body() }).await.expect_err("not sold");
        assert_eq!(refusal(&status), (Code::NotFound, "PRODUCT_NOT_FOUND".into()));
        assert_eq!(metadata(&status), [("product_id".to_owned(), gone.to_owned())]);
    }
    for sql in ["select count(*) from orders", "select count(*) from outbox.event"] {
        assert_eq!(scene.count(sql).await?, 0, "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn what_was_accepted_stays_accepted_whatever_becomes_of_the_catalogue() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let request = repeatable();
    let order = create(&scene.api, request.clone()).await?;
    scene.sell("gaming-mouse", "EUR", 5_499).await?;
    assert_eq!(create(&scene.api, request.clone()).await?, order);
    scene.archive("mouse-pad").await?;
    assert_eq!(create(&scene.api, request.clone()).await?, order);
    // But under this id nothing else, sold or not.
    let other = CreateOrderRequest { items: vec![item("abacus", 1, 1)], ..request };
    let status = create(&scene.api, other).await.expect_err("another body");
    assert_eq!(refusal(&status), (Code::AlreadyExists, "REQUEST_ID_REUSED".into()));
    assert_eq!(scene.count("select count(*) from orders").await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_request_sent_by_many_at_once_is_one_order() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let request = repeatable();
    let mut calls = JoinSet::new();
    for _ in 0..CALLERS {
        let (api, request) = (scene.api.clone(), request.clone());
        calls.spawn(async move { create(&api, request).await });
    }
    let mut answers = Vec::new();
    while let Some(answer) = calls.join_next().await {
        answers.push(answer??);
    }
    assert_eq!(answers.len(), CALLERS);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "all get the same answer: {answers:?}");
    let order_id = id(&answers[0])?;
    assert_eq!(scene.history(order_id).await?, ["OrderPlaced"]);
    assert_eq!(scene.said(order_id).await?.len(), 2);
    for (sql, rows) in [
        ("select count(*) from orders", 1),
        ("select count(*) from order_events", 1),
        ("select count(*) from outbox.event", 2),
    ] {
        assert_eq!(scene.count(sql).await?, rows, "{sql}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_bodies_under_one_request_id_exactly_one_wins() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let one = repeatable();
    let other = CreateOrderRequest { items: vec![item("mouse-pad", 1, 1_250)], ..one.clone() };
    let mut calls = JoinSet::new();
    for caller in 0..CALLERS {
        let (api, request) = (scene.api.clone(), if caller % 2 == 0 { &one } else { &other }.clone());
        calls.spawn(async move { (caller % 2, create(&api, request).await) });
    }
    let (mut orders, mut winners) = (HashSet::new(), HashSet::new());
    let mut refusals = 0;
    while let Some(call) = calls.join_next().await {
        match call? {
            (body, Ok(order)) => {
                orders.insert(order.order_id);
                winners.insert(body);
            }
            (_, Err(status)) => {
                assert_eq!(refusal(&status), (Code::AlreadyExists, "REQUEST_ID_REUSED".into()));
                refusals += 1;
            }
        }
    }
    assert_eq!((orders.len(), winners.len(), refusals), (1, 1, CALLERS / 2));
    assert_eq!(scene.count("select count(*) from outbox.event").await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_request_id_holds_for_all_of_the_body() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let request = repeatable();
    let order = create(&scene.api, request.clone()).await?;
    let items = || request.items.clone();
    let mut reversed = items();
    reversed.reverse();
    for other in [
        CreateOrderRequest { payment_token: "tok_declined".into(), ..request.clone() },
        CreateOrderRequest { items: items()[..1].to_vec(), ..request.clone() },
        CreateOrderRequest { items: reversed, ..request.clone() },
        CreateOrderRequest {
            items: vec![item("gaming-mouse", 3, 4_999), items()[1].clone()],
            ..request.clone()
        },
        CreateOrderRequest {
            items: vec![item("gaming-mouse", 2, 4_998), items()[1].clone()],
            ..request.clone()
        },
    ] {
        let status = create(&scene.api, other.clone()).await.expect_err("another body");
        assert_eq!(refusal(&status), (Code::AlreadyExists, "REQUEST_ID_REUSED".into()), "{other:?}");
        assert!(status.message().contains(&request.request_id), "{}", status.message());
    }
    // Empty means tok_ok, so this is the same body.
    let same = CreateOrderRequest { payment_token: String::new(), ..request.clone() };
    assert_eq!(create(&scene.api, same).await?, order);
    // The id belongs to its customer: another one's is another order.
    let theirs = CreateOrderRequest { customer_id: "cust-2".into(), ..request };
    assert_ne!(create(&scene.api, theirs).await?.order_id, order.order_id);
    assert_eq!(scene.count("select count(*) from orders").await?, 2);
    assert_eq!(scene.count("select count(*) from outbox.event").await?, 4);
    Ok(())
}

#[tokio::test]
async fn a_late_repeat_finds_the_order_as_it_is_now() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let request = repeatable();
    let first = create(&scene.api, request.clone()).await?;
    for command in [Command::StockReserved, Command::PaymentSucceeded] {
        scene.apply(id(&first)?, command).await?;
    }
    // A UUID is the same one in capitals.
    let again = CreateOrderRequest { request_id: request.request_id.to_uppercase(), ..request };
    let again = create(&scene.api, again).await?;
    assert_eq!((&again.order_id, again.status()), (&first.order_id, OrderStatus::Confirmed));
    let history = ["OrderPlaced", "StockReserved", "PaymentSucceeded", "OrderConfirmed"];
    assert_eq!(scene.history(id(&first)?).await?, history);
    Ok(())
}

#[tokio::test]
async fn without_a_request_id_every_call_is_an_order() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    assert_ne!(scene.place().await?, scene.place().await?);
    assert_eq!(scene.count("select count(*) from outbox.event").await?, 4);
    Ok(())
}

#[tokio::test]
async fn a_repeat_waits_for_a_first_one_that_is_not_committed_yet() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let request = repeatable();
    // Somebody holds the request id in an open transaction, and then gives up.
    let mut first = scene.pool.begin().await?;
    sqlx::query(
        "insert into orders (order_id, customer_id, status, version, items, currency, total_minor, payment_id,
                             stock, payment, request_id, request_hash, created_at, updated_at)
         values ($1, $2, 'PENDING', 1, '[]', 'EUR', 1, $1, 'REQUESTED', 'NOT_WANTED', $3, '', now(), now())",
    )
    .bind(Uuid::now_v7())
    .bind(&request.customer_id)
    .bind(Uuid::parse_str(&request.request_id)?)
    .execute(&mut *first)
    .await?;
    let api = scene.api.clone();
    let second = tokio::spawn(async move { create(&api, request).await });
    scene.blocked().await?;
    first.rollback().await?;
    let order_id = id(&second.await??)?;
    assert_eq!(scene.history(order_id).await?, ["OrderPlaced"]);
    assert_eq!(scene.said(order_id).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_wrong_order_is_refused_with_every_field_named_and_leaves_nothing() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.sell("palace", "EUR", i64::MAX).await?;
    scene.sell("mug", "USD", 900).await?;
    let mut dollars = item("mug", 1, 900);
    dollars.unit_price = None;
    for (request, wrong) in [
        (CreateOrderRequest { request_id: "42".into(), ..body() }, vec!["request_id"]),
        (CreateOrderRequest { customer_id: "a b".into(), ..body() }, vec!["customer_id"]),
        (CreateOrderRequest { customer_id: "\0".into(), ..body() }, vec!["customer_id"]),
        (CreateOrderRequest { payment_token: "tok\0".into(), ..body() }, vec!["payment_token"]),
        (CreateOrderRequest { items: vec![], ..body() }, vec!["items"]),
        (CreateOrderRequest { items: vec![item("p", 1, 1); 1_001], ..body() }, vec!["items"]),
        (CreateOrderRequest { items: vec![item("palace", 1, i64::MAX); 2], ..body() }, vec!["items"]),
        (
            CreateOrderRequest { items: vec![item("mouse-pad", 1, 1_250), dollars], ..body() },
            vec!["items[1].product_id"],
        ),
        (
            CreateOrderRequest {
                request_id: "x".into(),
                customer_id: String::new(),
                items: vec![item("'; drop table orders; --", 0, -1)],
                ..body()
            },
            vec![
                "request_id",
                "customer_id",
                "items[0].product_id",
                "items[0].quantity",
                "items[0].unit_price.minor",
            ],
        ),
    ] {
        let status = create(&scene.api, request.clone()).await.expect_err("refused");
        assert_eq!(fields(&status), wrong, "{request:?}");
    }
    for sql in ["select count(*) from orders", "select count(*) from outbox.event"] {
        assert_eq!(scene.count(sql).await?, 0, "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn the_largest_order_is_taken() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let product = "p".repeat(64);
    scene.sell(&product, "EUR", 1_000_000).await?;
    let items = vec![item(&product, i32::MAX, 1_000_000); 1_000];
    let order = create(&scene.api, CreateOrderRequest { items, ..body() }).await?;
    assert_eq!(order.total.as_ref().map(|total| total.minor), Some(2_147_483_647_000_000_000));
    let told = scene.told(id(&order)?).await?;
    assert_eq!(told.len(), 2);
    for told in told {
        let size = told.payload.len();
        assert!(size < outbox::MAX_EVENT_BYTES / 4, "{} of {size} bytes", told.summary);
    }
    Ok(())
}

#[tokio::test]
async fn orders_placed_at_once_share_transactions_and_a_wrong_one_fails_alone() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let repeated = repeatable();
    let mut callers = JoinSet::new();
    for caller in 0..120 {
        let request = match caller % 4 {
            0 => CreateOrderRequest { items: vec![item("gaming-mouse", 1, 1)], ..body() },
            1 => CreateOrderRequest { items: vec![item("no-such-thing", 1, 1)], ..body() },
            2 => repeated.clone(),
            _ => body(),
        };
        let api = scene.api.clone();
        callers.spawn(async move { (caller % 4, create(&api, request).await) });
    }
    let mut accepted = HashSet::new();
    while let Some(answer) = callers.join_next().await {
        match answer? {
            (0, refused) => {
                let refused = refused.expect_err("another price");
                assert_eq!(refusal(&refused), (Code::FailedPrecondition, "PRICE_CHANGED".to_owned()));
            }
            (1, refused) => {
                let refused = refused.expect_err("not sold");
                assert_eq!(refusal(&refused), (Code::NotFound, "PRODUCT_NOT_FOUND".to_owned()));
            }
            (_, order) => {
                accepted.insert(id(&order?)?);
            }
        }
    }
    assert_eq!(accepted.len(), 31, "30 of their own and the repeated one");
    for order_id in &accepted {
        assert_eq!(scene.history(*order_id).await?, ["OrderPlaced"]);
        assert_eq!(scene.said(*order_id).await?.len(), 2);
    }
    let transactions = scene.count("select count(distinct xid::text) from outbox.event").await?;
    assert!(transactions < 31, "{transactions} transactions");
    Ok(())
}

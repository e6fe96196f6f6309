//! What an order goes through, from the records of `stock-requests` to the answers in the outbox.

use consumer::HandleError;
use prost::Message as _;
use proto::inventory::v1::{Product, ReserveStock, ShipmentScheduled, UpdateProductRequest};
use uuid::Uuid;

use crate::scene::{Ask, Scene, batch, item, message, product, record};

fn mugs(quantity: i32) -> Ask {
    Ask::Reserve(vec![item("mug", quantity)])
}

/// How a reservation of ten mugs comes into each state.
fn ways() -> Vec<(&'static str, Vec<Ask>)> {
    vec![
        ("none", vec![]),
        ("RESERVED", vec![mugs(3)]),
        ("REJECTED OUT_OF_STOCK", vec![mugs(11)]),
        ("REJECTED NOT_SOLD", vec![Ask::Reserve(vec![item("jug", 1)])]),
        ("REJECTED EXPIRED", vec![Ask::ReserveLate(vec![item("mug", 3)])]),
        ("REJECTED", vec![Ask::Commit]),
        ("RELEASED", vec![Ask::Release]),
        ("COMMITTED", vec![mugs(3), Ask::Commit]),
    ]
}

/// State, available and reserved of ten mugs.
async fn seen(scene: &Scene, order_id: Uuid) -> anyhow::Result<(String, (i64, i64))> {
    let sql = "select concat_ws(' ', state, rejection) from reservations where order_id = $1";
    let state: Option<String> = sqlx::query_scalar(sql).bind(order_id).fetch_optional(&scene.pool).await?;
    Ok((state.unwrap_or_else(|| "none".to_owned()), scene.stock("mug").await?))
}

/// The table of the service: state, command, answer, state after it, mugs available and reserved after it.
#[tokio::test]
async fn each_command_has_its_answer_in_each_state() -> anyhow::Result<()> {
    type Row = (&'static str, [(&'static str, &'static str, (i64, i64)); 4]);
    let (held, back, shipped) = ((7, 3), (10, 0), (7, 0));
    let free = back;
    let table: [Row; 8] = [
        // Reserve, reserve late, commit, release.
        (
            "none",
            [
                ("StockReserved", "RESERVED", held),
                ("StockRejected EXPIRED", "REJECTED EXPIRED", free),
                ("CommitFailed", "REJECTED", free),
                ("StockReleased", "RELEASED", free),
            ],
        ),
        (
            "RESERVED",
            [
                ("StockReserved", "RESERVED", held),
                ("StockReserved", "RESERVED", held),
                ("ShipmentScheduled", "COMMITTED", shipped),
                ("StockReleased", "RELEASED", back),
            ],
        ),
        (
            "REJECTED OUT_OF_STOCK",
            [
                ("StockRejected OUT_OF_STOCK mug", "REJECTED OUT_OF_STOCK", free),
                ("StockRejected OUT_OF_STOCK mug", "REJECTED OUT_OF_STOCK", free),
                ("CommitFailed", "REJECTED OUT_OF_STOCK", free),
                ("StockReleased", "RELEASED", free),
            ],
        ),
        (
            "REJECTED NOT_SOLD",
            [
                ("StockRejected NOT_SOLD jug", "REJECTED NOT_SOLD", free),
                ("StockRejected NOT_SOLD jug", "REJECTED NOT_SOLD", free),
                ("CommitFailed", "REJECTED NOT_SOLD", free),
                ("StockReleased", "RELEASED", free),
            ],
        ),
        (
            "REJECTED EXPIRED",
            [
                ("StockRejected EXPIRED", "REJECTED EXPIRED", free),
                ("StockRejected EXPIRED", "REJECTED EXPIRED", free),
                ("CommitFailed", "REJECTED EXPIRED", free),
                ("StockReleased", "RELEASED", free),
            ],
        ),
        (
            "REJECTED",
            [
                ("StockRejected OUT_OF_STOCK", "REJECTED", free),
                ("StockRejected OUT_OF_STOCK", "REJECTED", free),
                ("CommitFailed", "REJECTED", free),
                ("StockReleased", "RELEASED", free),
            ],
        ),
        (
            "RELEASED",
            [
                ("StockRejected EXPIRED", "RELEASED", free),
                ("StockRejected EXPIRED", "RELEASED", free),
                ("CommitFailed", "RELEASED", free),
                ("StockReleased", "RELEASED", free),
            ],
        ),
        (
            "COMMITTED",
            [
                ("StockReserved", "COMMITTED", shipped),
                ("StockReserved", "COMMITTED", shipped),
                ("ShipmentScheduled", "COMMITTED", shipped),
                ("StockReleased", "RELEASED", back),
            ],
        ),
    ];
    let late = Ask::ReserveLate(vec![item("mug", 3)]);
    let commands = [mugs(3), late, Ask::Commit, Ask::Release];
    for ((state, cells), (way, before)) in table.iter().zip(ways()) {
        assert_eq!(*state, way);
        for (command, (answer, after, units)) in commands.iter().zip(cells) {
            let scene = Scene::set().await?;
            scene.add("mug", 10).await?;
            let order_id = Uuid::now_v7();
            for ask in &before {
                scene.ask(order_id, ask.clone()).await?;
            }
            assert_eq!(seen(&scene, order_id).await?.0, way);
            let cell = format!("{state} × {command:?}");
            let version = before.len() + 1;
            assert_eq!(scene.ask(order_id, command.clone()).await?, format!("{version} {answer}"), "{cell}");
            assert_eq!(seen(&scene, order_id).await?, ((*after).to_owned(), *units), "{cell}");
            // Whatever the answer was, it is the same when the command comes again.
            let again = scene.ask(order_id, command.clone()).await?;
            assert_eq!(again, format!("{} {answer}", version + 1), "{cell}, again");
            assert_eq!(seen(&scene, order_id).await?, ((*after).to_owned(), *units), "{cell}, again");
            scene.check_invariants().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_order_gets_everything_or_nothing() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for (product_id, units) in [("mug", 10), ("jug", 1), ("pen", 0)] {
        scene.add(product_id, units).await?;
    }
    let all = |jugs| vec![item("mug", 2), item("jug", jugs), item("mug", 1)];
    let refused = scene.ask(Uuid::now_v7(), Ask::Reserve(all(2))).await?;
    assert_eq!(refused, "1 StockRejected OUT_OF_STOCK jug");
    let refused = scene.ask(Uuid::now_v7(), Ask::Reserve(vec![item("mug", 1), item("pen", 1)])).await?;
    assert_eq!(refused, "1 StockRejected OUT_OF_STOCK pen");
    assert_eq!((scene.stock("mug").await?, scene.stock("jug").await?), ((10, 0), (1, 0)));
    assert_eq!(scene.ask(Uuid::now_v7(), Ask::Reserve(all(1))).await?, "1 StockReserved");
    assert_eq!((scene.stock("mug").await?, scene.stock("jug").await?), ((7, 3), (0, 1)));
    scene.check_invariants().await
}

#[tokio::test]
async fn a_product_that_is_named_twice_is_counted_twice() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 5).await?;
    let twice = |first, second| Ask::Reserve(vec![item("mug", first), item("mug", second)]);
    let refused = scene.ask(Uuid::now_v7(), twice(3, 3)).await?;
    assert_eq!(refused, "1 StockRejected OUT_OF_STOCK mug");
    let order_id = Uuid::now_v7();
    assert_eq!(scene.ask(order_id, twice(3, 2)).await?, "1 StockReserved");
    assert_eq!(scene.ask(order_id, twice(3, 2)).await?, "2 StockReserved");
    assert_eq!(scene.stock("mug").await?, (0, 5));
    scene.ask(order_id, Ask::Release).await?;
    assert_eq!(scene.stock("mug").await?, (5, 0));
    scene.check_invariants().await
}

#[tokio::test]
async fn an_archived_product_is_not_reserved_but_what_is_held_goes_on() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 10).await?;
    let (shipped, released) = (Uuid::now_v7(), Uuid::now_v7());
    scene.ask(shipped, mugs(2)).await?;
    scene.ask(released, mugs(3)).await?;
    let request = UpdateProductRequest {
        product: Some(Product { archived: true, ..product("mug") }),
        update_mask: None,
    };
    scene.api.clone().update_product(request).await?;
    assert_eq!(scene.ask(Uuid::now_v7(), mugs(1)).await?, "1 StockRejected NOT_SOLD mug");
    assert_eq!(scene.ask(shipped, mugs(2)).await?, "2 StockReserved");
    assert_eq!(scene.ask(shipped, Ask::Commit).await?, "3 ShipmentScheduled");
    assert_eq!(scene.ask(released, Ask::Release).await?, "2 StockReleased");
    assert_eq!(scene.stock("mug").await?, (8, 0));
    scene.check_invariants().await
}

#[tokio::test]
async fn a_shipment_is_the_same_however_often_it_is_asked_for() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 10).await?;
    let order_id = Uuid::now_v7();
    for ask in [mugs(2), Ask::Commit, Ask::Commit, mugs(2), Ask::Commit] {
        scene.ask(order_id, ask).await?;
    }
    let told = scene.told("stock-results", &order_id.to_string()).await?;
    let shipments: Vec<ShipmentScheduled> = told
        .iter()
        .filter(|(_, name, _)| name == "ShipmentScheduled")
        .map(|(_, _, payload)| ShipmentScheduled::decode(payload.as_slice()))
        .collect::<Result<_, _>>()?;
    assert_eq!(shipments.len(), 3);
    assert!(shipments.iter().all(|shipment| *shipment == shipments[0]), "{shipments:?}");
    assert_eq!(scene.stock("mug").await?, (8, 0));
    scene.check_invariants().await
}

#[tokio::test]
async fn a_released_shipment_comes_back_and_is_never_reserved_again() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 10).await?;
    let order_id = Uuid::now_v7();
    let mut answers = Vec::new();
    for ask in [mugs(4), Ask::Commit, Ask::Release, Ask::Release, Ask::Commit, mugs(4)] {
        answers.push(scene.ask(order_id, ask).await?);
    }
    assert_eq!(
        answers,
        [
            "1 StockReserved",
            "2 ShipmentScheduled",
            "3 StockReleased",
            "4 StockReleased",
            "5 CommitFailed",
            "6 StockRejected EXPIRED",
        ]
    );
    assert_eq!(scene.stock("mug").await?, (10, 0));
    scene.check_invariants().await
}

#[tokio::test]
async fn a_batch_sees_what_its_own_records_did() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 3).await?;
    let orders: Vec<Uuid> = (0..4).map(|_| Uuid::now_v7()).collect();
    let records = [
        record(5, orders[0], mugs(2)),
        record(5, orders[1], mugs(2)),
        record(7, orders[2], mugs(1)),
        record(5, orders[0], Ask::Release),
        record(5, orders[3], mugs(2)),
        record(7, orders[2], Ask::Commit),
        record(5, orders[3], Ask::Commit),
    ];
    assert_eq!(
        scene.batch(&records).await?,
        [
            "1 StockReserved",
            "1 StockRejected OUT_OF_STOCK mug",
            "1 StockReserved",
            "2 StockReleased",
            "1 StockReserved",
            "2 ShipmentScheduled",
            "2 ShipmentScheduled",
        ]
    );
    assert_eq!(scene.stock("mug").await?, (0, 0));
    scene.check_invariants().await
}

#[tokio::test]
async fn what_a_release_gives_back_another_order_gets() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 2).await?;
    let first = Uuid::now_v7();
    scene.ask_in(3, first, mugs(2)).await?;
    assert_eq!(scene.ask_in(8, Uuid::now_v7(), mugs(1)).await?, "1 StockRejected OUT_OF_STOCK mug");
    // Its partition is another one by now; the units go back to where they came from.
    scene.ask_in(9, first, Ask::Release).await?;
    let bucket = "select available from stock where product_id = 'mug' and bucket = 3";
    assert_eq!(scene.count(bucket).await?, 2);
    assert_eq!(scene.ask_in(8, Uuid::now_v7(), mugs(2)).await?, "1 StockReserved");
    scene.check_invariants().await
}

#[tokio::test]
async fn a_request_that_is_wrong_is_poison() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 10).await?;
    let order_id = Uuid::now_v7();
    let whole = ReserveStock { order_id: order_id.to_string(), items: vec![item("mug", 1)], not_after: None };
    scene.ask(order_id, mugs(1)).await?;
    let wrong = [
        ("order_id", ReserveStock { order_id: "42".to_owned(), ..whole.clone() }),
        ("items ", ReserveStock { items: vec![], ..whole.clone() }),
        ("items[0].quantity", ReserveStock { items: vec![item("mug", 0)], ..whole.clone() }),
        (
            "items[1].product_id",
            ReserveStock { items: vec![item("mug", 1), item("a b", 1)], ..whole.clone() },
        ),
        ("items of order", ReserveStock { items: vec![item("mug", 2)], ..whole.clone() }),
    ];
    for (named, request) in wrong {
        let error = batch(&scene.pool, &[message(0, &request)]).await.expect_err(named);
        let poison = error.downcast_ref::<HandleError>();
        let named_by = matches!(poison, Some(HandleError::Poison { reason }) if reason.starts_with(named));
        assert!(named_by, "{named}: {error:#}");
    }
    assert_eq!(scene.stock("mug").await?, (9, 1));
    scene.check_invariants().await
}

//! `CancelOrder`: at every moment until the carrier has come, also against an answer that comes at the same moment.

use order::{
    app,
    domain::{Command, Event, Reason},
};
use outbox::UnitOfWork;
use prost::Message as _;
use proto::{
    billing::v1::RefundRequested,
    inventory::v1::ReleaseStock,
    order::v1::{CancelOrderRequest, GetOrderRequest, OrderStatus, StatusReason},
};
use tokio::task::JoinSet;
use tonic::Code;
use uuid::Uuid;

use crate::scene::{DEADLINES, Scene, apply, cancel, cancel_now, fields, refusal, shipment};

const CONFIRMED: [&str; 4] = ["OrderPlaced", "StockReserved", "PaymentSucceeded", "OrderConfirmed"];

#[tokio::test]
async fn an_order_without_stock_is_released_and_billing_never_hears_of_it() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    let order = scene.cancel(order_id).await?;
    assert_eq!((order.status(), order.version), (OrderStatus::Compensating, 2));
    assert_eq!(order.status_reason(), StatusReason::CancelledByCustomer);
    assert_eq!(scene.cancel(order_id).await?, order, "repeating it is no error and no change");
    assert_eq!(scene.history(order_id).await?, ["OrderPlaced", "CompensationStarted"]);
    let told = scene.told(order_id).await?;
    let said: Vec<&str> = told[2..].iter().map(|told| told.summary.as_str()).collect();
    assert_eq!(said, ["order-status 2 OrderCompensating", "stock-requests 2 ReleaseStock"]);
    let release = ReleaseStock::decode(told[3].payload.as_slice())?;
    assert_eq!(release.order_id, order_id.to_string());

    // Its reservation was under way: the release is behind it.
    scene.apply(order_id, Command::StockReserved).await?;
    scene.apply(order_id, Command::StockReleased).await?;
    let order = scene.cancel(order_id).await?;
    assert_eq!((order.status(), order.version), (OrderStatus::Cancelled, 4));
    assert_eq!(order.status_reason(), StatusReason::CancelledByCustomer);
    assert_eq!(
        scene.said(order_id).await?[4..],
        [
            "order-status 3 OrderProgressed",
            "order-status 4 OrderCancelled",
            "notification-events 4 NotificationRequested",
        ]
    );
    Ok(())
}

#[tokio::test]
async fn stock_and_money_come_back_in_either_order_before_it_is_cancelled() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (stock, money) = (Command::StockReleased, Command::PaymentRefunded { minor: 11_248 });
    for answers in [[stock.clone(), money.clone()], [money, stock]] {
        for order_id in [scene.place_stocked().await?, scene.place_confirmed().await?] {
            let (before, said) = (scene.history(order_id).await?.len(), scene.said(order_id).await?.len());
            let order = scene.cancel(order_id).await?;
            assert_eq!(order.status(), OrderStatus::Compensating);
            let told = scene.told(order_id).await?.split_off(said);
            let summaries: Vec<&str> = told.iter().map(|told| told.summary.as_str()).collect();
            let version = order.version;
            let expected = [
                format!("order-status {version} OrderCompensating"),
                format!("stock-requests {version} ReleaseStock"),
                format!("payment-requests {version} RefundRequested"),
            ];
            assert_eq!(summaries, expected);
            let refund = RefundRequested::decode(told[2].payload.as_slice())?;
            assert_eq!((refund.payment_id, refund.order_id), (order.payment_id, order.order_id));
            for answer in &answers {
                assert_eq!(scene.get(order_id).await?.0.status(), OrderStatus::Compensating);
                scene.apply(order_id, answer.clone()).await?;
                // It comes twice, as two events.
                scene.apply(order_id, answer.clone()).await?;
            }
            let (order, _) = scene.get(order_id).await?;
            assert_eq!((order.status(), order.deadline), (OrderStatus::Cancelled, None));
            assert_eq!(scene.history(order_id).await?.len(), before + 4);
            let told = scene.said(order_id).await?.split_off(said + 3);
            let of = |topic: &str| told.iter().filter(|said| said.starts_with(topic)).count();
            assert_eq!((of("order-status"), of("notification-events"), told.len()), (3, 2, 5), "{told:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_shipment_is_called_off_until_the_carrier_has_come() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (waiting, gone) = (scene.place_confirmed().await?, scene.place_confirmed().await?);
    scene.apply(waiting, Command::ShipmentScheduled(shipment(24))).await?;
    scene.apply(gone, Command::ShipmentScheduled(shipment(-1))).await?;
    let order = scene.cancel(waiting).await?;
    assert_eq!((order.status(), order.version), (OrderStatus::Compensating, 6));
    assert!(scene.said(waiting).await?.contains(&"stock-requests 6 ReleaseStock".to_owned()));
    let before = (scene.history(gone).await?, scene.said(gone).await?);
    let status = scene.cancel(gone).await.expect_err("too late");
    assert_eq!(refusal(&status), (Code::FailedPrecondition, "NOT_CANCELLABLE".into()));
    assert_eq!((scene.history(gone).await?, scene.said(gone).await?), before);
    Ok(())
}

#[tokio::test]
async fn an_order_that_has_ended_otherwise_or_waits_for_an_operator_is_not_cancelled() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (rejected, parked) = (scene.place().await?, scene.place_confirmed().await?);
    scene.apply(rejected, Command::StockRejected(Reason::OutOfStock)).await?;
    scene.apply(parked, Command::CommitFailed).await?;
    for order_id in [rejected, parked] {
        let before = (scene.history(order_id).await?, scene.said(order_id).await?);
        let status = scene.cancel(order_id).await.expect_err("too late");
        assert_eq!(refusal(&status), (Code::FailedPrecondition, "NOT_CANCELLABLE".into()));
        assert_eq!((scene.history(order_id).await?, scene.said(order_id).await?), before);
    }
    Ok(())
}

#[tokio::test]
async fn an_order_that_does_not_exist_is_neither_read_nor_cancelled() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.place().await?;
    let status = scene.cancel(Uuid::now_v7()).await.expect_err("unknown");
    assert_eq!(refusal(&status), (Code::NotFound, "ORDER_NOT_FOUND".into()));
    let mut api = scene.api.clone();
    let unknown = GetOrderRequest { order_id: Uuid::now_v7().to_string() };
    let status = api.get_order(unknown).await.expect_err("unknown");
    assert_eq!(refusal(&status), (Code::NotFound, "ORDER_NOT_FOUND".into()));
    for order_id in ["", "42", "' or true --"] {
        let cancel = CancelOrderRequest { order_id: order_id.into() };
        assert_eq!(fields(&api.cancel_order(cancel).await.expect_err("refused")), ["order_id"]);
        let get = GetOrderRequest { order_id: order_id.into() };
        assert_eq!(fields(&api.get_order(get).await.expect_err("refused")), ["order_id"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_cancellation_waits_for_a_payment_in_flight_and_refunds_it() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place_stocked().await?;
    let mut payment = UnitOfWork::begin(&scene.pool).await?;
    let (_, events) = app::apply(&mut payment, order_id, Command::PaymentSucceeded, DEADLINES.into()).await?;
    let api = scene.api.clone();
    let cancellation = tokio::spawn(async move { cancel(&api, order_id).await });
    scene.blocked().await?;
    payment.commit(events).await?;
    let order = cancellation.await??;
    assert_eq!((order.status(), order.version), (OrderStatus::Compensating, 5));
    let history = scene.history(order_id).await?;
    assert_eq!(
        (&history[..4], history[4].as_str()),
        (&CONFIRMED.map(String::from)[..], "CompensationStarted")
    );
    assert!(scene.said(order_id).await?.contains(&"payment-requests 5 RefundRequested".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_payment_waits_for_a_cancellation_in_flight_and_leaves_it_its_refund() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place_stocked().await?;
    let mut cancellation = UnitOfWork::begin(&scene.pool).await?;
    let (_, events) = app::apply(&mut cancellation, order_id, cancel_now(), DEADLINES.into()).await?;
    let pool = scene.pool.clone();
    let payment = tokio::spawn(async move { apply(&pool, order_id, Command::PaymentSucceeded).await });
    scene.blocked().await?;
    cancellation.commit(events).await?;
    payment.await??;
    assert_eq!(scene.history(order_id).await?, ["OrderPlaced", "StockReserved", "CompensationStarted"]);
    let refunds = scene.said(order_id).await?.iter().filter(|said| said.contains("RefundRequested")).count();
    assert_eq!(refunds, 1);
    Ok(())
}

/// The lock makes writers wait for each other; this is what holds where somebody forgets it.
#[tokio::test]
async fn two_writers_of_one_version_cannot_both_commit() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place_stocked().await?;
    let insert = "insert into order_events (order_id, version, event, schema, data, occurred_at)
                  values ($1, 3, $2, 2, '{}', now())";
    let (mut first, mut second) = (scene.pool.begin().await?, scene.pool.acquire().await?);
    sqlx::query(insert).bind(order_id).bind("PaymentSucceeded").execute(&mut *first).await?;
    let name = Event::StockReleased {}.name();
    let other =
        tokio::spawn(
            async move { sqlx::query(insert).bind(order_id).bind(name).execute(&mut *second).await },
        );
    scene.blocked().await?;
    first.commit().await?;
    let error = other.await?.expect_err("the version is taken");
    let constraint = error.as_database_error().and_then(|error| error.constraint());
    assert_eq!(constraint, Some("order_events_pkey"), "{error}");
    // The service does not write over what it has not seen either: the row is still of version 2.
    let refused = scene.apply(order_id, Command::PaymentSucceeded).await.expect_err("the version is taken");
    assert!(
        format!("{refused:#}").contains("order_events_pkey")
            || format!("{refused:?}").contains("order_events_pkey"),
        "{refused:?}"
    );
    sqlx::query("update orders set version = 3 where order_id = $1")
        .bind(order_id)
        .execute(&scene.superuser)
        .await?;
    scene.apply(order_id, Command::PaymentSucceeded).await?;
    let versions = "select count(*) from order_events where version = 3";
    assert_eq!(scene.count(versions).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_comes_first_decides_and_the_order_has_one_history() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for round in 0..24 {
        let order_id = scene.place_stocked().await?;
        let mut calls = JoinSet::new();
        for call in 0..6 {
            let (api, pool) = (scene.api.clone(), scene.pool.clone());
            calls.spawn(async move {
                match (call + round) % 3 {
                    0 => Ok(cancel(&api, order_id).await.map(|_| ())?),
                    1 => apply(&pool, order_id, Command::PaymentSucceeded).await,
                    _ => apply(&pool, order_id, Command::PaymentFailed(Reason::PaymentDeclined)).await,
                }
            });
        }
        while let Some(call) = calls.join_next().await {
            call??;
        }
        let history = scene.history(order_id).await?;
        let story: Vec<&str> = history.iter().skip(2).map(String::as_str).collect();
        let said = scene.said(order_id).await?;
        let asked = |what: &str| said.iter().filter(|said| said.ends_with(what)).count();
        // Stock is asked back once, and money where it was not refused before, or where it came after that.
        match story.as_slice() {
            ["CompensationStarted"] => assert!(asked("RefundRequested") <= 1, "{said:?}"),
            ["CompensationStarted", "LatePaymentFound"]
            | ["PaymentSucceeded", "OrderConfirmed", "CompensationStarted"] => {
                assert_eq!(asked("RefundRequested"), 1, "{said:?}");
            }
            _ => panic!("{history:?}"),
        }
        assert_eq!(asked("ReleaseStock"), 1, "{said:?}");
    }
    Ok(())
}

//! `CancelOrder`, also against a payment that succeeds at the same moment.

use order::{
    app,
    domain::{Command, Reason},
};
use outbox::UnitOfWork;
use prost::Message as _;
use proto::{
    billing::v1::RefundRequested,
    order::v1::{CancelOrderRequest, GetOrderRequest, OrderStatus, StatusReason},
};
use tokio::task::JoinSet;
use tonic::Code;
use uuid::Uuid;

use crate::scene::{Scene, apply, cancel, fields, refusal};

const CONFIRMED: [&str; 3] = ["OrderPlaced", "PaymentSucceeded", "OrderConfirmed"];
const COMPENSATING: [&str; 2] = ["OrderPlaced", "CancellationRequested"];

#[tokio::test]
async fn a_pending_order_is_compensated_and_its_refund_asked_for_once() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    let order = scene.cancel(order_id).await?;
    assert_eq!((order.status(), order.version), (OrderStatus::Compensating, 2));
    assert_eq!(order.status_reason(), StatusReason::CancelledByCustomer);
    assert_eq!(scene.cancel(order_id).await?, order, "repeating it is no error and no change");
    assert_eq!(scene.history(order_id).await?, COMPENSATING);
    let told = scene.told(order_id).await?;
    let said: Vec<&str> = told[2..].iter().map(|told| told.summary.as_str()).collect();
    assert_eq!(said, ["order-status 2 OrderCompensating", "payment-requests 2 RefundRequested"]);
    let refund = RefundRequested::decode(told[3].payload.as_slice())?;
    assert_eq!((refund.payment_id, refund.order_id), (order.payment_id, order.order_id));

    scene.apply(order_id, Command::PaymentRefunded).await?;
    let order = scene.cancel(order_id).await?;
    assert_eq!((order.status(), order.version), (OrderStatus::Cancelled, 3));
    assert_eq!(order.status_reason(), StatusReason::CancelledByCustomer);
    assert_eq!(scene.history(order_id).await?.len(), 3);
    assert_eq!(scene.said(order_id).await?.len(), 6);
    Ok(())
}

#[tokio::test]
async fn an_order_that_has_ended_otherwise_is_not_cancelled() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for end in [Command::PaymentSucceeded, Command::PaymentFailed(Reason::InsufficientFunds)] {
        let order_id = scene.place().await?;
        scene.apply(order_id, end).await?;
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
async fn a_cancellation_waits_for_a_payment_in_flight_and_is_refused() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    let mut payment = UnitOfWork::begin(&scene.pool).await?;
    let (_, events) = app::apply(&mut payment, order_id, Command::PaymentSucceeded).await?;
    let api = scene.api.clone();
    let cancellation = tokio::spawn(async move { cancel(&api, order_id).await });
    scene.blocked().await?;
    payment.commit(events).await?;
    let status = cancellation.await?.expect_err("too late");
    assert_eq!(refusal(&status), (Code::FailedPrecondition, "NOT_CANCELLABLE".into()));
    assert_eq!(scene.history(order_id).await?, CONFIRMED);
    Ok(())
}

#[tokio::test]
async fn a_payment_waits_for_a_cancellation_in_flight_and_leaves_it_its_refund() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    let mut cancellation = UnitOfWork::begin(&scene.pool).await?;
    let (_, events) = app::apply(&mut cancellation, order_id, Command::Cancel).await?;
    let pool = scene.pool.clone();
    let payment = tokio::spawn(async move { apply(&pool, order_id, Command::PaymentSucceeded).await });
    scene.blocked().await?;
    cancellation.commit(events).await?;
    payment.await??;
    assert_eq!(scene.history(order_id).await?, COMPENSATING);
    let refunds = scene.said(order_id).await?.iter().filter(|said| said.contains("RefundRequested")).count();
    assert_eq!(refunds, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_comes_first_decides_and_the_order_has_one_history() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for round in 0..24 {
        let order_id = scene.place().await?;
        let mut calls = JoinSet::new();
        for call in 0..6 {
            let (api, pool) = (scene.api.clone(), scene.pool.clone());
            calls.spawn(async move {
                if (call + round) % 2 == 0 {
                    cancel(&api, order_id).await.map(|_| ()).or_else(|status| {
                        anyhow::ensure!(refusal(&status).1 == "NOT_CANCELLABLE", "{status}");
                        Ok(())
                    })
                } else {
                    apply(&pool, order_id, Command::PaymentSucceeded).await
                }
            });
        }
        while let Some(call) = calls.join_next().await {
            call??;
        }
        let history = scene.history(order_id).await?;
        assert!(history == CONFIRMED || history == COMPENSATING, "{history:?}");
        let said = scene.said(order_id).await?;
        assert_eq!(said.len(), if history == CONFIRMED { 5 } else { 4 }, "{said:?}");
    }
    Ok(())
}

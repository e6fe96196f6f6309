//! `WatchOrder` and `GetOrder`: every transition of an order, once and in order, until its end.

use std::time::Duration;

use order::domain::{Command, Reason};
use proto::order::v1::{
    GetOrderRequest, OrderStatus, OrderTransition, StatusReason, WatchOrderRequest, WatchOrderResponse,
};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

use crate::scene::{Scene, fields, refusal};

/// How long a transition may take to be told.
const WITHIN: Duration = Duration::from_secs(10);

async fn watch(
    scene: &Scene,
    order_id: impl ToString,
    after_version: i32,
) -> Result<Streaming<WatchOrderResponse>, Status> {
    let request = WatchOrderRequest { order_id: order_id.to_string(), after_version };
    Ok(scene.api.clone().watch_order(request).await?.into_inner())
}

/// The next transition as `version event STATUS`; `end` after the last.
async fn next(stream: &mut Streaming<WatchOrderResponse>) -> anyhow::Result<String> {
    let told = timeout(WITHIN, stream.message()).await??;
    Ok(told.and_then(|told| told.transition).map_or("end".to_owned(), |transition| summary(&transition)))
}

fn summary(transition: &OrderTransition) -> String {
    let status = transition.status().as_str_name().trim_start_matches("ORDER_STATUS_");
    format!("{} {} {status}", transition.version, transition.event)
}

#[tokio::test]
async fn a_watcher_is_told_what_was_what_comes_and_that_it_has_ended() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    let (mut all, mut later) = (watch(&scene, order_id, 0).await?, watch(&scene, order_id, 1).await?);
    assert_eq!(next(&mut all).await?, "1 OrderPlaced PENDING");
    scene.apply(order_id, Command::PaymentSucceeded).await?;
    for stream in [&mut all, &mut later] {
        for expected in ["2 PaymentSucceeded PAID", "3 OrderConfirmed CONFIRMED", "end"] {
            assert_eq!(next(stream).await?, expected);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_watcher_that_knows_of_more_than_there_is_ends_with_the_order() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    let mut stream = watch(&scene, order_id, 3).await?;
    scene.apply(order_id, Command::PaymentSucceeded).await?;
    assert_eq!(next(&mut stream).await?, "end");
    Ok(())
}

#[tokio::test]
async fn a_watcher_stays_with_an_order_that_is_being_undone() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    scene.cancel(order_id).await?;
    let mut stream = watch(&scene, order_id, 0).await?;
    assert_eq!(next(&mut stream).await?, "1 OrderPlaced PENDING");
    assert_eq!(next(&mut stream).await?, "2 CancellationRequested COMPENSATING");
    scene.apply(order_id, Command::PaymentRefunded).await?;
    assert_eq!(next(&mut stream).await?, "3 OrderCancelled CANCELLED");
    assert_eq!(next(&mut stream).await?, "end");
    Ok(())
}

#[tokio::test]
async fn an_order_that_has_ended_is_told_from_the_version_on() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    for command in [Command::Cancel, Command::PaymentRefunded, Command::PaymentSucceeded] {
        scene.apply(order_id, command).await?;
    }
    let history = [
        "1 OrderPlaced PENDING",
        "2 CancellationRequested COMPENSATING",
        "3 OrderCancelled CANCELLED",
        // Money that came after the end.
        "4 LatePaymentFound CANCELLED",
    ];
    for after_version in 0..=5 {
        let mut stream = watch(&scene, order_id, after_version as i32).await?;
        for expected in history.iter().skip(after_version).chain(&["end"]) {
            assert_eq!(next(&mut stream).await?, *expected, "after {after_version}");
        }
    }
    let get = GetOrderRequest { order_id: order_id.to_string() };
    let got = scene.api.clone().get_order(get).await?.into_inner();
    assert_eq!(got.history.iter().map(summary).collect::<Vec<_>>(), history);
    Ok(())
}

#[tokio::test]
async fn a_transition_says_why_and_when() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    scene.apply(order_id, Command::PaymentFailed(Reason::PaymentExpired)).await?;
    let mut stream = watch(&scene, order_id, 0).await?;
    let mut transitions = Vec::new();
    while let Some(told) = timeout(WITHIN, stream.message()).await?? {
        transitions.extend(told.transition);
    }
    let get = GetOrderRequest { order_id: order_id.to_string() };
    let got = scene.api.clone().get_order(get).await?.into_inner();
    assert_eq!(transitions, got.history, "both tell the same");
    let order = got.order.expect("an answer has an order");
    assert_eq!((order.status(), order.version), (OrderStatus::Rejected, 2));
    let [first, last] = transitions.as_slice() else { anyhow::bail!("{transitions:?}") };
    assert_eq!((first.event_time, last.event_time), (order.create_time, order.update_time));
    assert_eq!(first.status_reason(), StatusReason::Unspecified);
    assert_eq!(last.status_reason(), StatusReason::PaymentExpired);
    assert_eq!(order.status_reason(), StatusReason::PaymentExpired);
    Ok(())
}

#[tokio::test]
async fn shutdown_ends_a_stream_that_waits() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    let mut stream = watch(&scene, order_id, 0).await?;
    assert_eq!(next(&mut stream).await?, "1 OrderPlaced PENDING");
    scene.shutdown.cancel();
    assert_eq!(next(&mut stream).await?, "end");
    Ok(())
}

#[tokio::test]
async fn a_wrong_watch_is_refused_before_it_begins() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    let status = watch(&scene, Uuid::now_v7(), 0).await.expect_err("unknown");
    assert_eq!(refusal(&status), (Code::NotFound, "ORDER_NOT_FOUND".into()));
    let status = watch(&scene, order_id, -1).await.expect_err("refused");
    assert_eq!(fields(&status), ["after_version"]);
    let status = watch(&scene, "42", i32::MIN).await.expect_err("refused");
    assert_eq!(fields(&status), ["order_id", "after_version"]);
    Ok(())
}

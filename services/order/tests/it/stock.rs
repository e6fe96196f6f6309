//! What inventory's answers do to an order, from the records of `stock-results` to the outbox.

use prost::{Message as _, Name as _};
use proto::{
    inventory::v1::{CommitFailed, ShipmentScheduled, StockRejected, StockRejection, StockReserved},
    notification::v1::{NotificationKind, NotificationRequested},
    order::v1::{OrderStatus, StatusReason},
};
use uuid::Uuid;

use crate::{
    answers::Answers,
    records::{Records, STOCK_RESULTS},
    scene::{CARRIER, Scene, shipment},
};

#[tokio::test]
async fn an_order_goes_from_its_stock_over_its_payment_to_its_shipment() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    let (answers, shipment) = (Answers::to(&scene, order_id).await?, shipment(24));
    let records = Records::begin(&scene).await?;
    for (step, status, waits) in [
        (0, OrderStatus::StockReserved, true),
        (1, OrderStatus::Confirmed, true),
        (2, OrderStatus::Confirmed, false),
    ] {
        // Each answer comes as one record twice, and as another.
        for _ in 0..2 {
            match step {
                0 => {
                    let id = records.send(&answers.reserved()).await?;
                    records.send_again(id, &answers.reserved()).await?;
                }
                1 => {
                    let id = records.send(&answers.succeeded()).await?;
                    records.send_again(id, &answers.succeeded()).await?;
                }
                _ => {
                    let id = records.send(&answers.shipped(&shipment)).await?;
                    records.send_again(id, &answers.shipped(&shipment)).await?;
                }
            }
        }
        records.settle().await?;
        let (order, _) = scene.get(order_id).await?;
        assert_eq!((order.status(), order.deadline.is_some()), (status, waits));
    }
    let history = ["OrderPlaced", "StockReserved", "PaymentSucceeded", "OrderConfirmed", "ShipmentScheduled"];
    assert_eq!(scene.history(order_id).await?, history);
    assert_eq!(
        scene.said(order_id).await?,
        [
            "order-created 1 OrderCreated",
            "stock-requests 1 ReserveStock",
            "order-status 2 OrderStockReserved",
            "payment-requests 2 PaymentRequested",
            "order-status 3 OrderPaid",
            "order-status 4 OrderConfirmed",
            "stock-requests 4 CommitStock",
            "notification-events 4 NotificationRequested",
            "order-status 5 OrderShipped",
            "notification-events 5 NotificationRequested",
        ]
    );
    let (order, told) = (scene.get(order_id).await?.0, scene.told(order_id).await?);
    let travels = order.shipment.expect("a shipment");
    assert_eq!((travels.shipment_id, travels.carrier.as_str()), (shipment.shipment_id.to_string(), CARRIER));
    assert_eq!(travels.ship_time.map(|at| at.seconds), Some(shipment.ship_time.unix_timestamp()));
    let notification = NotificationRequested::decode(told[9].payload.as_slice())?;
    assert_eq!(notification.kind(), NotificationKind::OrderShipped);
    assert_eq!(notification.reason, format!("with {CARRIER}, from {}", shipment.ship_time.date()));
    records.end().await
}

#[tokio::test]
async fn an_order_whose_stock_is_refused_is_rejected_and_billing_never_hears_of_it() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let records = Records::begin(&scene).await?;
    for (rejection, reason, words) in [
        (StockRejection::OutOfStock, StatusReason::OutOfStock, "a product is out of stock"),
        (StockRejection::NotSold, StatusReason::NotSold, "a product is no longer sold"),
        (StockRejection::Expired, StatusReason::StockExpired, "its products could not be reserved in time"),
    ] {
        let order_id = scene.place().await?;
        let answers = Answers::to(&scene, order_id).await?;
        records.send(&answers.rejected(rejection)).await?;
        records.send(&answers.rejected(StockRejection::OutOfStock)).await?;
        records.settle().await?;
        assert_eq!(scene.history(order_id).await?, ["OrderPlaced", "OrderRejected"]);
        let told = scene.told(order_id).await?.split_off(2);
        let said: Vec<&str> = told.iter().map(|told| told.summary.as_str()).collect();
        assert_eq!(said, ["order-status 2 OrderRejected", "notification-events 2 NotificationRequested"]);
        let notification = NotificationRequested::decode(told[1].payload.as_slice())?;
        let told = (notification.kind(), notification.reason.as_str());
        assert_eq!(told, (NotificationKind::OrderRejected, words));
        let (order, _) = scene.get(order_id).await?;
        assert_eq!((order.status(), order.status_reason()), (OrderStatus::Rejected, reason));
        assert_eq!(order.deadline, None);
    }
    records.end().await
}

#[tokio::test]
async fn stock_that_comes_after_the_end_is_given_back() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let records = Records::begin(&scene).await?;
    let (rejected, cancelled) = (scene.place().await?, scene.place().await?);
    scene.cancel(cancelled).await?;
    records.send(&Answers::to(&scene, rejected).await?.rejected(StockRejection::Expired)).await?;
    records.send(&Answers::to(&scene, cancelled).await?.released()).await?;
    records.settle().await?;
    for (order_id, status) in [(rejected, OrderStatus::Rejected), (cancelled, OrderStatus::Cancelled)] {
        let answers = Answers::to(&scene, order_id).await?;
        let before = scene.get(order_id).await?.0.version;
        let id = records.send(&answers.reserved()).await?;
        records.send_again(id, &answers.reserved()).await?;
        records.settle().await?;
        let (order, _) = scene.get(order_id).await?;
        assert_eq!((order.status(), order.version), (status, before + 1));
        assert!(order.deadline.is_some(), "its release is waited for");
        let said = scene.said(order_id).await?;
        assert_eq!(said.last(), Some(&format!("stock-requests {} ReleaseStock", before + 1)));
        records.send(&answers.released()).await?;
        records.settle().await?;
        let history = scene.history(order_id).await?;
        assert_eq!(history[history.len() - 2..], ["LateStockFound", "StockReleased"]);
        let (order, _) = scene.get(order_id).await?;
        assert_eq!((order.status(), order.deadline), (status, None));
    }
    records.end().await
}

#[tokio::test]
async fn a_paid_order_of_which_inventory_holds_nothing_waits_for_an_operator() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place_confirmed().await?;
    let said = scene.said(order_id).await?.len();
    let records = Records::begin(&scene).await?;
    let answers = Answers::to(&scene, order_id).await?;
    for _ in 0..2 {
        records.send(&answers.commit_failed()).await?;
    }
    records.settle().await?;
    let (order, _) = scene.get(order_id).await?;
    assert_eq!(order.status(), OrderStatus::NeedsAttention);
    assert_eq!((order.status_reason(), order.deadline), (StatusReason::CommitFailed, None));
    assert_eq!(scene.said(order_id).await?[said..], ["order-status 5 OrderNeedsAttention"]);
    // Inventory has found it: nobody has to do anything any more.
    records.send(&answers.shipped(&shipment(24))).await?;
    records.settle().await?;
    let (order, _) = scene.get(order_id).await?;
    assert_eq!((order.status(), order.status_reason()), (OrderStatus::Confirmed, StatusReason::Unspecified));
    let history = scene.history(order_id).await?;
    assert_eq!(history[4..], ["AttentionNeeded", "ShipmentScheduled"]);
    records.end().await
}

#[tokio::test]
async fn an_answer_that_cannot_be_right_becomes_a_dead_letter_and_nothing_else_waits() -> anyhow::Result<()> {
    let unknown = Answers::about(Uuid::now_v7(), "");
    let scene = Scene::set().await?;
    let order_id = scene.place_confirmed().await?;
    let before = (scene.history(order_id).await?, scene.said(order_id).await?);
    let known = Answers::to(&scene, order_id).await?;
    let scheduled = known.shipped(&shipment(24));
    let untimed = ShipmentScheduled { ship_time: None, ..scheduled.clone() };
    let mut out_of_time = scheduled.clone();
    out_of_time.ship_time = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    let nameless = ShipmentScheduled { shipment_id: "42".into(), ..scheduled };
    let records = Records::begin(&scene).await?;
    for (what, event_type, payload) in [
        ("an unknown order", StockReserved::full_name(), unknown.reserved().encode_to_vec()),
        ("no order", CommitFailed::full_name(), CommitFailed::default().encode_to_vec()),
        (
            "a rejection without a reason",
            StockRejected::full_name(),
            known.rejected(StockRejection::Unspecified).encode_to_vec(),
        ),
        ("a shipment that nobody fetches", ShipmentScheduled::full_name(), untimed.encode_to_vec()),
        ("a shipment after the end of time", ShipmentScheduled::full_name(), out_of_time.encode_to_vec()),
        ("a shipment without an id", ShipmentScheduled::full_name(), nameless.encode_to_vec()),
        ("rubbish", StockReserved::full_name(), b"rubbish".to_vec()),
    ] {
        let after = scene.place().await?;
        let poison = Uuid::now_v7();
        records.send_raw(STOCK_RESULTS, poison, &event_type, &payload).await?;
        records.send(&Answers::to(&scene, after).await?.reserved()).await?;
        records.settle().await?;
        assert!(!records.dead(poison).await?.is_empty(), "{what}");
        assert_eq!(scene.history(after).await?.len(), 2, "{what}: what follows has taken effect");
    }
    assert_eq!((scene.history(order_id).await?, scene.said(order_id).await?), before);
    records.end().await
}

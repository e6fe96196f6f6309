//! What billing's answers do to an order, from the records of `payment-results` to the outbox.

use prost::{Message as _, Name as _};
use proto::{
    billing::v1::{PaymentFailed, PaymentFailure, PaymentRefunded, PaymentSucceeded, RefundRequested},
    notification::v1::{NotificationKind, NotificationRequested},
    order::v1::{OrderStatus, StatusReason},
};
use uuid::Uuid;

use crate::{
    answers::Answers,
    records::{PAYMENT_RESULTS, Records},
    scene::Scene,
};

/// What a stocked order has said since its payment was asked for.
async fn said_since(scene: &Scene, order_id: Uuid) -> anyhow::Result<Vec<String>> {
    Ok(scene.said(order_id).await?.split_off(4))
}

/// What the customer was told last.
async fn notified(scene: &Scene, order_id: Uuid) -> anyhow::Result<NotificationRequested> {
    let told = scene.told(order_id).await?;
    let last = told.iter().rfind(|told| told.summary.starts_with("notification-events"));
    Ok(NotificationRequested::decode(last.expect("the customer was told").payload.as_slice())?)
}

#[tokio::test]
async fn a_payment_that_succeeds_confirms_its_order_once_and_asks_for_its_shipment() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place_stocked().await?;
    let answers = Answers::to(&scene, order_id).await?;
    let records = Records::begin(&scene).await?;
    let id = records.send(&answers.succeeded()).await?;
    // The same record again, and the same news in another.
    records.send_again(id, &answers.succeeded()).await?;
    records.send(&answers.succeeded()).await?;
    records.settle().await?;
    let history = ["OrderPlaced", "StockReserved", "PaymentSucceeded", "OrderConfirmed"];
    assert_eq!(scene.history(order_id).await?, history);
    assert_eq!(
        said_since(&scene, order_id).await?,
        [
            "order-status 3 OrderPaid",
            "order-status 4 OrderConfirmed",
            "stock-requests 4 CommitStock",
            "notification-events 4 NotificationRequested",
        ]
    );
    let notification = notified(&scene, order_id).await?;
    assert_eq!(notification.kind(), NotificationKind::OrderConfirmed);
    assert_eq!(notification.amount.map(|amount| amount.minor), Some(11_248));
    // Too late for any of these.
    records.send(&answers.failed(PaymentFailure::Declined)).await?;
    records.send(&answers.refunded(11_248)).await?;
    records.settle().await?;
    assert_eq!((scene.history(order_id).await?.len(), scene.said(order_id).await?.len()), (4, 8));
    records.end().await
}

#[tokio::test]
async fn a_payment_that_fails_gives_the_stock_back_and_rejects_its_order() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let records = Records::begin(&scene).await?;
    for (failure, reason, words) in [
        (PaymentFailure::Declined, StatusReason::PaymentDeclined, "your payment was declined"),
        (
            PaymentFailure::InsufficientFunds,
            StatusReason::InsufficientFunds,
            "your account does not cover the amount",
        ),
        (PaymentFailure::Expired, StatusReason::PaymentExpired, "your payment could not be taken in time"),
    ] {
        let order_id = scene.place_stocked().await?;
        let answers = Answers::to(&scene, order_id).await?;
        records.send(&answers.failed(failure)).await?;
        records.send(&answers.failed(PaymentFailure::Declined)).await?;
        records.settle().await?;
        let (order, _) = scene.get(order_id).await?;
        assert_eq!((order.status(), order.status_reason()), (OrderStatus::Compensating, reason));
        records.send(&answers.released()).await?;
        records.send(&answers.released()).await?;
        records.settle().await?;
        let history =
            ["OrderPlaced", "StockReserved", "CompensationStarted", "StockReleased", "OrderRejected"];
        assert_eq!(scene.history(order_id).await?, history);
        assert_eq!(
            said_since(&scene, order_id).await?,
            [
                "order-status 3 OrderCompensating",
                "stock-requests 3 ReleaseStock",
                "order-status 4 OrderProgressed",
                "order-status 5 OrderRejected",
                "notification-events 5 NotificationRequested",
            ],
            "nothing was charged, and nothing is to be refunded"
        );
        let (order, _) = scene.get(order_id).await?;
        assert_eq!((order.status(), order.status_reason()), (OrderStatus::Rejected, reason));
        let notification = notified(&scene, order_id).await?;
        let told = (notification.kind(), notification.reason.as_str());
        assert_eq!(told, (NotificationKind::OrderRejected, words));
    }
    records.end().await
}

#[tokio::test]
async fn a_refund_is_told_with_its_amount_and_only_where_there_was_one() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (charged, uncharged) = (scene.place_stocked().await?, scene.place_stocked().await?);
    // Nobody has asked for this one's refund.
    let unasked = scene.place_stocked().await?;
    let records = Records::begin(&scene).await?;
    for order_id in [charged, uncharged] {
        scene.cancel(order_id).await?;
    }
    // The charge was under way: its success is no news, the refund is on its way.
    records.send(&Answers::to(&scene, charged).await?.succeeded()).await?;
    for _ in 0..2 {
        records.send(&Answers::to(&scene, charged).await?.refunded(11_248)).await?;
        records.send(&Answers::to(&scene, uncharged).await?.refunded(0)).await?;
        records.send(&Answers::to(&scene, unasked).await?.refunded(11_248)).await?;
    }
    records.settle().await?;
    for order_id in [charged, uncharged] {
        let history = ["OrderPlaced", "StockReserved", "CompensationStarted", "PaymentRefunded"];
        assert_eq!(scene.history(order_id).await?, history);
    }
    let said = said_since(&scene, charged).await?;
    assert_eq!(said[3..], ["order-status 4 OrderProgressed", "notification-events 4 NotificationRequested"]);
    let told = notified(&scene, charged).await?;
    let amount = told.amount.as_ref().map(|amount| amount.minor);
    assert_eq!((told.kind(), amount), (NotificationKind::OrderRefunded, Some(11_248)));
    assert_eq!(said_since(&scene, uncharged).await?[3..], ["order-status 4 OrderProgressed"]);
    assert_eq!(scene.history(unasked).await?, ["OrderPlaced", "StockReserved"]);
    records.end().await
}

#[tokio::test]
async fn money_that_comes_after_the_end_is_sent_back() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (cancelled, rejected) = (scene.place_stocked().await?, scene.place_stocked().await?);
    scene.cancel(cancelled).await?;
    let records = Records::begin(&scene).await?;
    records.send(&Answers::to(&scene, cancelled).await?.refunded(0)).await?;
    records.send(&Answers::to(&scene, rejected).await?.failed(PaymentFailure::Expired)).await?;
    records.settle().await?;
    for order_id in [cancelled, rejected] {
        records.send(&Answers::to(&scene, order_id).await?.released()).await?;
    }
    records.settle().await?;
    for (order_id, status) in [(cancelled, OrderStatus::Cancelled), (rejected, OrderStatus::Rejected)] {
        let (order, history) = scene.get(order_id).await?;
        assert_eq!((order.status(), order.deadline), (status, None));
        // 40 seconds later the provider has made up its mind.
        let answers = Answers::to(&scene, order_id).await?;
        let id = records.send(&answers.succeeded()).await?;
        records.send_again(id, &answers.succeeded()).await?;
        records.settle().await?;
        let (order, later) = scene.get(order_id).await?;
        let version = order.version;
        assert_eq!((order.status(), later.len()), (status, history.len() + 1));
        assert!(order.deadline.is_some(), "its refund is waited for");
        assert_eq!(scene.history(order_id).await?.last().map(String::as_str), Some("LatePaymentFound"));
        let told = scene.told(order_id).await?;
        let last = told.last().expect("a record");
        assert_eq!(last.summary, format!("payment-requests {version} RefundRequested"));
        assert_eq!(RefundRequested::decode(last.payload.as_slice())?.payment_id, order.payment_id);
        records.send(&answers.refunded(11_248)).await?;
        records.settle().await?;
        let (order, _) = scene.get(order_id).await?;
        assert_eq!((order.status(), order.deadline), (status, None));
        assert_eq!(scene.history(order_id).await?.last().map(String::as_str), Some("PaymentRefunded"));
        assert_eq!(notified(&scene, order_id).await?.kind(), NotificationKind::OrderRefunded);
    }
    records.end().await
}

#[tokio::test]
async fn a_record_that_cannot_be_right_becomes_a_dead_letter_and_nothing_else_waits() -> anyhow::Result<()> {
    let unknown = Answers::about(Uuid::now_v7(), Uuid::now_v7());
    let unknown_order = unknown.succeeded();
    let no_uuid = PaymentSucceeded { order_id: "42".into(), ..unknown_order.clone() };
    let no_payment = PaymentSucceeded { payment_id: String::new(), ..unknown_order.clone() };
    let why = unknown.failed(PaymentFailure::Unspecified);
    let negative = unknown.refunded(-1);
    let (succeeded_type, failed_type) = (PaymentSucceeded::full_name(), PaymentFailed::full_name());
    let scene = Scene::set().await?;
    let records = Records::begin(&scene).await?;
    for (what, event_type, payload) in [
        ("an unknown order", &succeeded_type, unknown_order.encode_to_vec()),
        ("an order id that is none", &succeeded_type, no_uuid.encode_to_vec()),
        ("a payment id that is none", &succeeded_type, no_payment.encode_to_vec()),
        ("a failure without a reason", &failed_type, why.encode_to_vec()),
        ("a negative refund", &PaymentRefunded::full_name(), negative.encode_to_vec()),
        ("rubbish", &succeeded_type, b"rubbish".to_vec()),
    ] {
        let (before, after) = (scene.place_stocked().await?, scene.place_stocked().await?);
        records.send(&Answers::to(&scene, before).await?.succeeded()).await?;
        let poison = Uuid::now_v7();
        records.send_raw(PAYMENT_RESULTS, poison, event_type, &payload).await?;
        records.send(&Answers::to(&scene, after).await?.succeeded()).await?;
        records.settle().await?;
        assert!(!records.dead(poison).await?.is_empty(), "{what}");
        assert_eq!(scene.history(before).await?.len(), 4, "{what}: what came before has taken effect");
        assert_eq!(scene.history(after).await?.len(), 4, "{what}: and what follows");
    }
    records.end().await
}

#[tokio::test]
async fn an_answer_about_another_payment_does_nothing_and_becomes_a_dead_letter() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let records = Records::begin(&scene).await?;
    for told in ["succeeded", "failed", "refunded"] {
        let (order_id, other) = (scene.place_stocked().await?, scene.place_stocked().await?);
        // Each of these would take effect, were it about the order's own payment.
        if told == "refunded" {
            scene.cancel(order_id).await?;
        }
        let before = (scene.history(order_id).await?, scene.said(order_id).await?);
        let wrong = Answers::about(order_id, scene.get(other).await?.0.payment_id);
        let id = match told {
            "succeeded" => records.send(&wrong.succeeded()).await?,
            "failed" => records.send(&wrong.failed(PaymentFailure::Declined)).await?,
            _ => records.send(&wrong.refunded(11_248)).await?,
        };
        let why = records.dead(id).await?;
        assert!(why.contains("is not the payment of order"), "{why}");
        assert_eq!((scene.history(order_id).await?, scene.said(order_id).await?), before, "{told}");
    }
    records.end().await
}

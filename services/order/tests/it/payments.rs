//! What billing's answers do to an order, from the records of `payment-results` to the outbox.

use order::domain::Command;
use prost::{Message as _, Name as _};
use proto::{
    billing::v1::{PaymentFailed, PaymentFailure, PaymentRefunded, PaymentSucceeded, RefundRequested},
    notification::v1::{NotificationKind, NotificationRequested},
    order::v1::{GetOrderRequest, OrderStatus, StatusReason},
};
use uuid::Uuid;

use crate::{records::Records, scene::Scene};

/// What billing can say about an order's payment.
struct Payment {
    order_id: String,
    payment_id: String,
}

impl Payment {
    /// The one that the order has asked for.
    async fn of(scene: &Scene, order_id: Uuid) -> anyhow::Result<Self> {
        let sql = "select payment_id from orders where order_id = $1";
        let payment_id: Uuid = sqlx::query_scalar(sql).bind(order_id).fetch_one(&scene.pool).await?;
        Ok(Self { order_id: order_id.to_string(), payment_id: payment_id.to_string() })
    }

    fn succeeded(&self) -> PaymentSucceeded {
        let (order_id, payment_id) = (self.order_id.clone(), self.payment_id.clone());
        PaymentSucceeded { payment_id, order_id }
    }

    fn failed(&self, failure: PaymentFailure) -> PaymentFailed {
        let PaymentSucceeded { payment_id, order_id } = self.succeeded();
        PaymentFailed { payment_id, order_id, failure: failure.into() }
    }

    fn refunded(&self) -> PaymentRefunded {
        let PaymentSucceeded { payment_id, order_id } = self.succeeded();
        PaymentRefunded { payment_id, order_id, amount: None }
    }
}

/// What an order has said since it was placed.
async fn said_since(scene: &Scene, order_id: Uuid) -> anyhow::Result<Vec<String>> {
    Ok(scene.said(order_id).await?.split_off(2))
}

#[tokio::test]
async fn a_payment_that_succeeds_confirms_its_order_once() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    let payment = Payment::of(&scene, order_id).await?;
    let records = Records::begin(&scene).await?;
    let id = records.send(&payment.succeeded()).await?;
    // The same record again, and the same news in another.
    records.send_raw(id, &PaymentSucceeded::full_name(), &payment.succeeded().encode_to_vec()).await?;
    records.send(&payment.succeeded()).await?;
    records.settle().await?;
    assert_eq!(scene.history(order_id).await?, ["OrderPlaced", "PaymentSucceeded", "OrderConfirmed"]);
    assert_eq!(
        said_since(&scene, order_id).await?,
        [
            "order-status 2 OrderPaid",
            "order-status 3 OrderConfirmed",
            "notification-events 3 NotificationRequested",
        ]
    );
    let told = scene.told(order_id).await?;
    let notification = NotificationRequested::decode(told[4].payload.as_slice())?;
    assert_eq!(notification.kind(), NotificationKind::OrderConfirmed);
    assert_eq!(notification.amount.map(|amount| amount.minor), Some(11_248));
    // Too late for any of these.
    records.send(&payment.failed(PaymentFailure::Declined)).await?;
    records.send(&payment.refunded()).await?;
    records.settle().await?;
    assert_eq!((scene.history(order_id).await?.len(), scene.said(order_id).await?.len()), (3, 5));
    records.end().await
}

#[tokio::test]
async fn a_payment_that_fails_rejects_its_order_and_says_why() -> anyhow::Result<()> {
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
        let order_id = scene.place().await?;
        let payment = Payment::of(&scene, order_id).await?;
        records.send(&payment.failed(failure)).await?;
        records.send(&payment.failed(PaymentFailure::Declined)).await?;
        records.settle().await?;
        assert_eq!(scene.history(order_id).await?, ["OrderPlaced", "OrderRejected"]);
        assert_eq!(
            said_since(&scene, order_id).await?,
            ["order-status 2 OrderRejected", "notification-events 2 NotificationRequested"]
        );
        let get = GetOrderRequest { order_id: order_id.to_string() };
        let order = scene.api.clone().get_order(get).await?.into_inner().order.expect("an order");
        assert_eq!((order.status(), order.status_reason()), (OrderStatus::Rejected, reason));
        let told = scene.told(order_id).await?;
        let notification = NotificationRequested::decode(told[3].payload.as_slice())?;
        assert_eq!(
            (notification.kind(), notification.reason.as_str()),
            (NotificationKind::OrderRejected, words)
        );
    }
    records.end().await
}

#[tokio::test]
async fn a_refund_ends_a_cancelled_order_once() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (order_id, pending) = (scene.place().await?, scene.place().await?);
    let (payment, unasked) = (Payment::of(&scene, order_id).await?, Payment::of(&scene, pending).await?);
    scene.cancel(order_id).await?;
    let records = Records::begin(&scene).await?;
    // The charge was under way: its success is no news, the refund is on its way.
    records.send(&payment.succeeded()).await?;
    records.settle().await?;
    assert_eq!(scene.history(order_id).await?, ["OrderPlaced", "CancellationRequested"]);
    for _ in 0..2 {
        records.send(&payment.refunded()).await?;
        records.send(&unasked.refunded()).await?;
    }
    records.settle().await?;
    assert_eq!(scene.history(order_id).await?, ["OrderPlaced", "CancellationRequested", "OrderCancelled"]);
    assert_eq!(
        said_since(&scene, order_id).await?,
        [
            "order-status 2 OrderCompensating",
            "payment-requests 2 RefundRequested",
            "order-status 3 OrderCancelled",
            "notification-events 3 NotificationRequested",
        ]
    );
    assert_eq!(scene.history(pending).await?, ["OrderPlaced"]);
    records.end().await
}

#[tokio::test]
async fn money_that_comes_after_the_end_is_sent_back() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (cancelled, rejected) = (scene.place().await?, scene.place().await?);
    scene.cancel(cancelled).await?;
    scene.apply(cancelled, Command::PaymentRefunded).await?;
    let records = Records::begin(&scene).await?;
    records.send(&Payment::of(&scene, rejected).await?.failed(PaymentFailure::Expired)).await?;
    for order_id in [cancelled, rejected] {
        let late = Payment::of(&scene, order_id).await?.succeeded();
        let id = records.send(&late).await?;
        records.send_raw(id, &PaymentSucceeded::full_name(), &late.encode_to_vec()).await?;
    }
    records.settle().await?;
    for (order_id, status, version) in
        [(cancelled, OrderStatus::Cancelled, 4), (rejected, OrderStatus::Rejected, 3)]
    {
        let history = scene.history(order_id).await?;
        assert_eq!(history.len(), version, "{history:?}");
        assert_eq!(history.last().map(String::as_str), Some("LatePaymentFound"));
        let told = scene.told(order_id).await?;
        let last = told.last().expect("a record");
        assert_eq!(last.summary, format!("payment-requests {version} RefundRequested"));
        let get = GetOrderRequest { order_id: order_id.to_string() };
        let order = scene.api.clone().get_order(get).await?.into_inner().order.expect("an order");
        let refund = RefundRequested::decode(last.payload.as_slice())?;
        assert_eq!((order.status(), refund.payment_id), (status, order.payment_id));
    }
    records.end().await
}

#[tokio::test]
async fn a_record_that_cannot_be_right_becomes_a_dead_letter_and_nothing_else_waits() -> anyhow::Result<()> {
    let unknown = Payment { order_id: Uuid::now_v7().to_string(), payment_id: Uuid::now_v7().to_string() };
    let unknown_order = unknown.succeeded();
    let no_uuid = PaymentSucceeded { order_id: "42".into(), ..unknown_order.clone() };
    let no_payment = PaymentSucceeded { payment_id: String::new(), ..unknown_order.clone() };
    let why = unknown.failed(PaymentFailure::Unspecified);
    let (succeeded_type, failed_type) = (PaymentSucceeded::full_name(), PaymentFailed::full_name());
    for (what, event_type, payload) in [
        ("an unknown order", &succeeded_type, unknown_order.encode_to_vec()),
        ("an order id that is none", &succeeded_type, no_uuid.encode_to_vec()),
        ("a payment id that is none", &succeeded_type, no_payment.encode_to_vec()),
        ("a failure without a reason", &failed_type, why.encode_to_vec()),
        ("rubbish", &succeeded_type, b"rubbish".to_vec()),
    ] {
        let scene = Scene::set().await?;
        let (before, after) = (scene.place().await?, scene.place().await?);
        let records = Records::begin(&scene).await?;
        records.send(&Payment::of(&scene, before).await?.succeeded()).await?;
        let poison = Uuid::now_v7();
        records.send_raw(poison, event_type, &payload).await?;
        records.send(&Payment::of(&scene, after).await?.succeeded()).await?;
        records.settle().await?;
        assert!(!records.dead(poison).await?.is_empty(), "{what}");
        assert_eq!(scene.history(before).await?.len(), 3, "{what}: what came before has taken effect");
        assert_eq!(scene.history(after).await?.len(), 3, "{what}: and what follows");
        records.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_about_another_payment_does_nothing_and_becomes_a_dead_letter() -> anyhow::Result<()> {
    for told in ["succeeded", "failed", "refunded"] {
        let scene = Scene::set().await?;
        let (order_id, other) = (scene.place().await?, scene.place().await?);
        // Each of these would take effect, were it about the order's own payment.
        if told == "refunded" {
            scene.cancel(order_id).await?;
        }
        let before = (scene.history(order_id).await?, scene.said(order_id).await?);
        let records = Records::begin(&scene).await?;
        let Payment { payment_id, .. } = Payment::of(&scene, other).await?;
        let wrong = Payment { order_id: order_id.to_string(), payment_id };
        let id = match told {
            "succeeded" => records.send(&wrong.succeeded()).await?,
            "failed" => records.send(&wrong.failed(PaymentFailure::Declined)).await?,
            _ => records.send(&wrong.refunded()).await?,
        };
        let why = records.dead(id).await?;
        assert!(why.contains("is not the payment of order"), "{why}");
        assert_eq!((scene.history(order_id).await?, scene.said(order_id).await?), before, "{told}");
        records.end().await?;
    }
    Ok(())
}

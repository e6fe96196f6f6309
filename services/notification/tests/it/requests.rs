//! What the records of `notification-events` leave behind.

use consumer::HandleError;
use notification::domain::Kind;
use prost::{Message as _, Name as _};
use proto::{
    money::v1::Money,
    notification::v1::{NotificationRequested, Settings},
};
use uuid::Uuid;

use crate::scene::Scene;

#[tokio::test]
async fn each_order_and_kind_is_asked_for_once() -> anyhow::Result<()> {
    let mut scene = Scene::set(&[]).await?;
    for _ in 0..2 {
        scene.ask(Kind::PaymentReceipt).await?;
        scene.ask(Kind::OrderConfirmed).await?;
    }
    scene.order_id = Uuid::now_v7();
    scene.ask(Kind::PaymentReceipt).await?;
    assert_eq!(
        scene.told().await?,
        ["PAYMENT_RECEIPT LOG PENDING 0", "ORDER_CONFIRMED LOG PENDING 0", "PAYMENT_RECEIPT LOG PENDING 0"]
    );
    Ok(())
}

#[tokio::test]
async fn a_duplicate_after_the_delivery_is_not_told_again() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    assert_eq!(scene.dispatch().await?, 1);
    scene.ask(Kind::OrderConfirmed).await?;
    assert_eq!(scene.dispatch().await?, 0);
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED LOG DELIVERED 1"]);
    Ok(())
}

#[tokio::test]
async fn settings_count_at_the_moment_of_the_request() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    scene.ask(Kind::PaymentReceipt).await?;
    scene.choose_email().await?;
    scene.ask(Kind::OrderConfirmed).await?;
    assert_eq!(scene.told().await?, ["PAYMENT_RECEIPT LOG PENDING 0", "ORDER_CONFIRMED EMAIL PENDING 0"]);
    Ok(())
}

#[tokio::test]
async fn a_wrong_request_is_poison_with_its_field_named() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    let event = || scene.request(Kind::PaymentReceipt);
    let money = |currency: &str, minor| Some(Money { currency: currency.to_owned(), minor });
    let cases = [
        ("notification request: kind 0 is", NotificationRequested { kind: 0, ..event() }),
        ("notification request: kind 99 is", NotificationRequested { kind: 99, ..event() }),
        (
            "notification request: order_id is no UUID",
            NotificationRequested { order_id: "42".into(), ..event() },
        ),
        (
            "notification request: customer_id must",
            NotificationRequested { customer_id: "a b".into(), ..event() },
        ),
        (
            "notification request: amount currency must",
            NotificationRequested { amount: money("eur", 1), ..event() },
        ),
        (
            "notification request: amount minor must",
            NotificationRequested { amount: money("EUR", -1), ..event() },
        ),
    ];
    let mut cases: Vec<(&str, Vec<u8>)> = cases.map(|(reason, event)| (reason, event.encode_to_vec())).into();
    cases.push(("payload is no orderly.notification.v1.NotificationRequested", b"rubbish".to_vec()));
    for (expected, payload) in cases {
        match scene.handle(&NotificationRequested::full_name(), payload).await {
            Err(HandleError::Poison { reason }) => assert!(reason.starts_with(expected), "{reason}"),
            other => anyhow::bail!("{expected}: {other:?}"),
        }
    }
    assert!(scene.told().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_event_of_another_type_is_let_pass() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    scene.handle(&Settings::full_name(), b"rubbish".to_vec()).await?;
    assert!(scene.told().await?.is_empty());
    Ok(())
}

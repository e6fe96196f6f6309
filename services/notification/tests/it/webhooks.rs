//! From a pending notification to one that the customer's endpoint has taken.

use std::time::{SystemTime, UNIX_EPOCH};

use notification::{domain::Kind, webhook::Webhooks};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    endpoint::{Endpoint, Reply},
    scene::{CUSTOMER, SECRET, Scene, deliveries, dispatch},
};

const BUSY: Reply = Reply::Status("503 Service Unavailable");

#[tokio::test]
async fn a_call_tells_what_happened_and_is_signed() -> anyhow::Result<()> {
    let scene = Scene::set_webhook(&[]).await?;
    scene.ask(Kind::PaymentReceipt).await?;
    assert_eq!(scene.dispatch().await?, 1);
    assert_eq!(scene.told().await?, ["PAYMENT_RECEIPT WEBHOOK DELIVERED 1"]);
    let calls = scene.endpoint.0.calls();
    assert_eq!(calls.len(), 1);
    let call = &calls[0];
    assert_eq!(call.request, "POST /orders?customer=7 HTTP/1.1\r\n");
    assert_eq!(call.header("content-type"), "application/json");
    assert!(call.is_signed_with(SECRET)?, "{call:?}");
    assert!(!call.is_signed_with("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")?);
    let sent: u64 = call.header("webhook-timestamp").parse()?;
    assert!(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().abs_diff(sent) <= 60, "{sent}");

    let (id, requested): (String, String) = sqlx::query_as(
        "select notification_id::text, to_json(created_at at time zone 'UTC') #>> '{}' from notifications",
    )
    .fetch_one(&scene.pool)
    .await?;
    assert_eq!(call.header("webhook-id"), id);
    let body: Value = serde_json::from_str(&call.body)?;
    assert_eq!(body["type"], "payment.receipt");
    let timestamp = body["timestamp"].as_str().unwrap_or_default();
    assert!(timestamp.starts_with(&requested[..19]) && timestamp.ends_with('Z'), "{timestamp} {requested}");
    let data = &body["data"];
    assert_eq!(data["notification_id"], id);
    assert_eq!(data["order_id"], scene.order_id.to_string());
    assert_eq!((&data["customer_id"], &data["kind"]), (&CUSTOMER.into(), &"PAYMENT_RECEIPT".into()));
    assert_eq!(data["subject"], "Receipt for your order");
    assert!(data["body"].as_str().is_some_and(|body| body.contains("EUR 49.99")), "{data}");
    Ok(())
}

#[tokio::test]
async fn what_passes_is_tried_again_with_the_same_id_and_body() -> anyhow::Result<()> {
    let replies = [
        BUSY,
        Reply::HangUp,
        Reply::Status("429 Too Many Requests"),
        Reply::Status("408 Request Timeout"),
        Reply::Status("425 Too Early"),
        Reply::Status("202 Accepted"),
    ];
    let scene = Scene::set_webhook(&replies).await?;
    scene.ask(Kind::OrderShipped).await?;
    for attempt in 1..=replies.len() {
        assert_eq!(scene.dispatch().await?, 1, "attempt {attempt}");
        assert!(scene.longest_wait().await? < 10.0, "attempt {attempt}");
        scene.all_due().await?;
    }
    assert_eq!(scene.dispatch().await?, 0);
    assert_eq!(scene.told().await?, ["ORDER_SHIPPED WEBHOOK DELIVERED 6"]);
    let calls = scene.endpoint.0.calls();
    assert_eq!(calls.len(), replies.len());
    for call in &calls {
        assert!(call.is_signed_with(SECRET)?, "{call:?}");
        assert_eq!(call.header("webhook-id"), calls[0].header("webhook-id"));
        assert_eq!(call.body, calls[0].body);
    }
    Ok(())
}

#[tokio::test]
async fn what_the_endpoint_refuses_waits_long() -> anyhow::Result<()> {
    for refusal in ["410 Gone", "400 Bad Request", "404 Not Found"] {
        let scene = Scene::set_webhook(&[Reply::Status(refusal)]).await?;
        scene.ask(Kind::OrderConfirmed).await?;
        assert_eq!(scene.dispatch().await?, 1);
        assert_eq!(scene.told().await?, ["ORDER_CONFIRMED WEBHOOK PENDING 1"]);
        assert!(scene.longest_wait().await? > 10.0, "{refusal}");
    }
    Ok(())
}

#[tokio::test]
async fn a_redirect_is_not_followed() -> anyhow::Result<()> {
    let scene = Scene::set_webhook(&[]).await?;
    let (other, address) = Endpoint::listen(&[]).await?;
    let status: &'static str = format!("307 Temporary Redirect\r\nlocation: http://{address}/").leak();
    scene.endpoint.0.will(&[Reply::Status(status)]);
    scene.ask(Kind::OrderConfirmed).await?;
    assert_eq!(scene.dispatch().await?, 1);
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED WEBHOOK PENDING 1"]);
    assert_eq!((scene.endpoint.0.calls().len(), other.calls().len()), (1, 0));
    Ok(())
}

#[tokio::test]
async fn an_endpoint_that_says_nothing_is_waited_for_not_for_ever() -> anyhow::Result<()> {
    let scene = Scene::set_webhook(&[Reply::Silence]).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    assert_eq!(scene.dispatch().await?, 1);
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED WEBHOOK PENDING 1"]);
    scene.all_due().await?;
    assert_eq!(scene.dispatch().await?, 1);
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED WEBHOOK DELIVERED 2"]);
    Ok(())
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() -> anyhow::Result<()> {
    let scene = Scene::set_webhook(&[Reply::Endless]).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    assert_eq!(scene.dispatch().await?, 1);
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED WEBHOOK DELIVERED 1"]);
    Ok(())
}

#[tokio::test]
async fn a_private_address_is_not_called_whatever_its_name() -> anyhow::Result<()> {
    let mut scene = Scene::set_webhook(&[]).await?;
    let guarded = deliveries(&scene.pool, Webhooks::new(false)?, &scene.metrics);
    let port = scene.endpoint.1.port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
        scene.order_id = Uuid::now_v7();
        scene.choose_webhook(&format!("http://{host}:{port}/")).await?;
        scene.ask(Kind::OrderConfirmed).await?;
        assert_eq!(dispatch(&*guarded).await?, 1, "{host}");
        assert!(scene.longest_wait().await? > 10.0, "{host}");
    }
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED WEBHOOK PENDING 1"; 4]);
    assert!(scene.endpoint.0.calls().is_empty());
    Ok(())
}

#[tokio::test]
async fn what_is_delivered_keeps_no_secret() -> anyhow::Result<()> {
    let scene = Scene::set_webhook(&[]).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    let kept = "select count(webhook_secret) + count(record_payload) from notifications";
    assert_eq!(sqlx::query_scalar::<_, i64>(kept).fetch_one(&scene.pool).await?, 2);
    scene.dispatch().await?;
    assert_eq!(sqlx::query_scalar::<_, i64>(kept).fetch_one(&scene.pool).await?, 0);
    Ok(())
}

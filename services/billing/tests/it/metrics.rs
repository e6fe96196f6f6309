//! What billing shows of itself moves with what happens.

use std::time::Duration;

use testkit::until;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::scene::{CHARGED, DECLINED, REFUNDED, Scene};

const STATUSES: [&str; 5] = ["PENDING", "SUCCEEDED", "FAILED", "REFUNDING", "REFUNDED"];

/// How many payments came into each status.
fn transitions(scene: &Scene) -> [f64; 5] {
    STATUSES.map(|status| scene.shown(&format!("billing_transitions_total{{status=\"{status}\"}}")))
}

#[tokio::test]
async fn each_transition_counts_once_when_it_is_committed() -> anyhow::Result<()> {
    let mut scene = Scene::set(&[CHARGED, REFUNDED, DECLINED]).await?;
    assert_eq!(transitions(&scene), [0.0; 5], "all shown from the start");
    scene.ask_for_payment().await?;
    assert_eq!(transitions(&scene), [1.0, 0.0, 0.0, 0.0, 0.0]);
    // Again: nothing new.
    scene.ask_for_payment().await?;
    scene.dispatch().await?;
    assert_eq!(transitions(&scene), [1.0, 1.0, 0.0, 0.0, 0.0]);
    scene.ask_for_refund().await?;
    scene.ask_for_refund().await?;
    assert_eq!(transitions(&scene), [1.0, 1.0, 0.0, 1.0, 0.0]);
    scene.dispatch().await?;
    // Whoever asks again is told again, and nothing changes.
    scene.ask_for_refund().await?;
    assert_eq!(transitions(&scene), [1.0, 1.0, 0.0, 1.0, 1.0]);

    (scene.payment_id, scene.order_id) = (Uuid::now_v7(), Uuid::now_v7());
    scene.ask_for_payment().await?;
    scene.dispatch().await?;
    assert_eq!(transitions(&scene), [2.0, 1.0, 1.0, 1.0, 1.0]);
    Ok(())
}

#[tokio::test]
async fn what_was_rolled_back_does_not_count() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    let mut message = scene.message(&scene.request());
    scene.roll_back(&message).await?;
    assert_eq!(transitions(&scene), [0.0; 5]);
    scene.handle_message(&message).await?;
    assert_eq!(transitions(&scene), [1.0, 0.0, 0.0, 0.0, 0.0]);
    // A second time it finds the payment.
    message.id = Uuid::now_v7();
    scene.handle_message(&message).await?;
    assert_eq!(transitions(&scene), [1.0, 0.0, 0.0, 0.0, 0.0]);
    Ok(())
}

#[tokio::test]
async fn what_is_owed_to_the_provider_is_shown() -> anyhow::Result<()> {
    let scene = Scene::set(&[CHARGED]).await?;
    let owed = |status: &str| scene.shown(&format!("billing_owed_calls{{status=\"{status}\"}}"));
    assert_eq!((owed("PENDING"), owed("REFUNDING")), (0.0, 0.0), "shown from the start");
    scene.ask_for_payment().await?;
    sqlx::query("UPDATE payments SET created_at = now() - interval '100 seconds'")
        .execute(&scene.owner)
        .await?;
    scene.look().await?;
    assert_eq!((owed("PENDING"), owed("REFUNDING")), (1.0, 0.0));
    assert!(scene.shown("billing_oldest_owed_call_seconds") >= 100.0);
    scene.dispatch().await?;
    scene.ask_for_refund().await?;
    scene.look().await?;
    assert_eq!((owed("PENDING"), owed("REFUNDING")), (0.0, 1.0));
    assert!(
        scene.shown("billing_oldest_owed_call_seconds") < 100.0,
        "a refund is owed since it was requested"
    );
    Ok(())
}

#[tokio::test]
async fn the_service_keeps_looking_until_it_is_stopped() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    scene.ask_for_payment().await?;
    let stop = CancellationToken::new();
    let (metrics, pool) = (scene.payments.metrics().clone(), scene.pool.clone());
    let watch = tokio::spawn({
        let stop = stop.clone();
        async move { metrics.watch(&pool, stop).await }
    });
    until("the gauge is set", Duration::from_secs(20), async || {
        Ok((scene.shown("billing_owed_calls{status=\"PENDING\"}") == 1.0).then_some(()))
    })
    .await?;
    stop.cancel();
    Ok(watch.await?)
}

/// It is asked every few seconds, in a table that only grows.
#[tokio::test]
async fn what_is_owed_is_read_from_its_index() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    sqlx::raw_sql(
        "INSERT INTO payments (payment_id, order_id, customer_id, currency, amount_minor, status, version)
         SELECT gen_random_uuid(), gen_random_uuid(), 'cust-1', 'EUR', 4999,
             CASE WHEN n % 1000 = 0 THEN 'PENDING' ELSE 'SUCCEEDED' END, 1
         FROM generate_series(1, 20000) AS n;
         ANALYZE payments",
    )
    .execute(&scene.owner)
    .await?;
    let explain = concat!("EXPLAIN ", include_str!("../../src/sql/owed.sql"));
    let plan: Vec<String> = sqlx::query_scalar(explain).fetch_all(&scene.pool).await?;
    let plan = plan.join("\n");
    assert!(plan.contains("payments_due_idx") && !plan.contains("Seq Scan"), "{plan}");
    Ok(())
}

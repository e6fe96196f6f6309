//! What the service shows of itself moves with what happens.

use std::time::Duration;

use notification::domain::{Channel, Kind};
use testkit::until;
use tokio_util::sync::CancellationToken;

use crate::{endpoint::Reply, scene::Scene, smtp::Answer};

/// Delivered, retried and undelivered on a channel.
fn outcomes(scene: &Scene, channel: &str) -> [f64; 3] {
    ["delivered", "retried", "undelivered"].map(|outcome| {
        let labels = format!("channel=\"{channel}\",outcome=\"{outcome}\"");
        scene.shows(&format!("notification_outcomes_total{{{labels}}}"))
    })
}

fn pending(scene: &Scene, channel: &str) -> (f64, f64) {
    let gauge = |name: &str| scene.shows(&format!("{name}{{channel=\"{channel}\"}}"));
    (gauge("notification_pending"), gauge("notification_oldest_pending_seconds"))
}

/// Looks once at what is pending.
async fn look(scene: &Scene) {
    let stop = CancellationToken::new();
    stop.cancel();
    scene.metrics.watch(&scene.pool, stop).await;
}

#[tokio::test]
async fn each_outcome_counts_on_its_channel() -> anyhow::Result<()> {
    let scene = Scene::set(&[Answer::HangUp]).await?;
    for channel in Channel::ALL {
        assert_eq!(outcomes(&scene, channel), [0.0; 3], "shown from the start");
    }
    for kind in [Kind::PaymentReceipt, Kind::OrderConfirmed] {
        scene.ask(kind).await?;
        scene.dispatch().await?;
    }
    assert_eq!(outcomes(&scene, Channel::LOG), [2.0, 0.0, 0.0]);

    scene.choose_email().await?;
    scene.ask(Kind::OrderShipped).await?;
    scene.dispatch().await?;
    assert_eq!(outcomes(&scene, Channel::EMAIL), [0.0, 1.0, 0.0]);
    scene.all_due().await?;
    scene.dispatch().await?;
    assert_eq!(outcomes(&scene, Channel::EMAIL), [1.0, 1.0, 0.0]);
    assert_eq!(outcomes(&scene, Channel::LOG), [2.0, 0.0, 0.0]);
    Ok(())
}

#[tokio::test]
async fn what_is_given_up_counts_as_undelivered() -> anyhow::Result<()> {
    let scene = Scene::set_webhook(&[Reply::Status("410 Gone"); 5]).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    for _ in 0..5 {
        scene.let_days_pass().await?;
        scene.all_due().await?;
        assert_eq!(scene.dispatch().await?, 1);
    }
    assert_eq!(outcomes(&scene, Channel::WEBHOOK), [0.0, 4.0, 1.0]);
    Ok(())
}

#[tokio::test]
async fn what_is_pending_is_shown_until_it_is_delivered() -> anyhow::Result<()> {
    let scene = Scene::set_webhook(&[]).await?;
    assert_eq!(pending(&scene, Channel::WEBHOOK), (0.0, 0.0), "shown from the start");
    scene.ask(Kind::PaymentReceipt).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    sqlx::query("update notifications set created_at = now() - interval '100 seconds'")
        .execute(&scene.database.superuser().await?)
        .await?;
    look(&scene).await;
    let (count, oldest) = pending(&scene, Channel::WEBHOOK);
    assert!(count == 2.0 && oldest >= 100.0, "{count} {oldest}");
    assert_eq!(pending(&scene, Channel::EMAIL), (0.0, 0.0));
    // One after the other: the order's second waits for its first.
    scene.dispatch().await?;
    scene.dispatch().await?;
    look(&scene).await;
    assert_eq!(pending(&scene, Channel::WEBHOOK), (0.0, 0.0));
    Ok(())
}

#[tokio::test]
async fn the_service_keeps_looking_until_it_is_stopped() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    scene.ask(Kind::PaymentReceipt).await?;
    let stop = CancellationToken::new();
    let watch = tokio::spawn({
        let (metrics, pool, stop) = (scene.metrics.clone(), scene.pool.clone(), stop.clone());
        async move { metrics.watch(&pool, stop).await }
    });
    until("the gauge is set", Duration::from_secs(20), async || {
        Ok((pending(&scene, Channel::LOG).0 == 1.0).then_some(()))
    })
    .await?;
    stop.cancel();
    Ok(watch.await?)
}

/// It is asked every few seconds, in a table that only grows.
#[tokio::test]
async fn what_is_pending_is_read_from_its_index() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    sqlx::raw_sql(
        "insert into notifications (notification_id, order_id, customer_id, kind, channel, status, delivered_at,
             subject, body)
         select gen_random_uuid(), gen_random_uuid(), 'cust-1', 'ORDER_CONFIRMED', 'LOG',
             case when n % 1000 = 0 then 'PENDING' else 'DELIVERED' end,
             case when n % 1000 = 0 then null else now() end, 'subject', 'body'
         from generate_series(1, 20000) as n;
         analyze notifications",
    )
    .execute(&scene.database.superuser().await?)
    .await?;
    let explain = concat!("explain ", include_str!("../../src/sql/pending.sql"));
    let plan: Vec<String> = sqlx::query_scalar(explain).fetch_all(&scene.pool).await?;
    let plan = plan.join("\n");
    assert!(plan.contains("notifications_due_on_channel") && !plan.contains("Seq Scan"), "{plan}");
    Ok(())
}

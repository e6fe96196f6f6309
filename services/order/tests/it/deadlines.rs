//! Deadlines: each passes once, however many replicas run, and never before what it waits for could have come.

use std::time::Duration;

use order::domain::{Command, REPEATS};
use proto::order::v1::{OrderStatus, StatusReason};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::scene::Scene;

/// Where the order service asks.
const TOPICS: [&str; 2] = ["stock-requests", "payment-requests"];
/// More than there are orders here.
const ALL: i64 = 100;

/// As if an order had been waited for long enough.
async fn let_it_be_late(scene: &Scene, order_id: Uuid) -> anyhow::Result<()> {
    let sql = "update orders set deadline = now() - interval '1 second' where order_id = $1 and deadline is not null";
    sqlx::query(sql).bind(order_id).execute(&scene.superuser).await?;
    Ok(())
}

/// As if the relay had published everything up to now.
async fn publish(scene: &Scene) -> anyhow::Result<()> {
    let sql = "update outbox.cursor set snap = pg_current_snapshot() where name = 'main'";
    sqlx::query(sql).execute(&scene.superuser).await?;
    Ok(())
}

/// One look of one replica, where everything that is in the topics has been read. Returns how many deadlines passed.
async fn look(scene: &Scene) -> anyhow::Result<usize> {
    let horizon = outbox::published_until(&scene.pool, &TOPICS).await?;
    Ok(scene.orders().pass_deadlines(horizon, ALL).await?)
}

#[tokio::test]
async fn an_order_without_an_answer_about_stock_is_undone_and_rejected() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (late, punctual) = (scene.place().await?, scene.place().await?);
    publish(&scene).await?;
    assert_eq!(look(&scene).await?, 0, "nobody is late yet");
    let_it_be_late(&scene, late).await?;
    assert_eq!(look(&scene).await?, 1);
    publish(&scene).await?;
    assert_eq!(look(&scene).await?, 0, "it has another deadline now");
    assert_eq!(scene.history(late).await?, ["OrderPlaced", "CompensationStarted"]);
    assert_eq!(scene.history(punctual).await?, ["OrderPlaced"]);
    assert_eq!(
        scene.said(late).await?[2..],
        ["order-status 2 OrderCompensating", "stock-requests 2 ReleaseStock"]
    );
    // Inventory had held it after all, and then finds the release.
    for answer in [Command::StockReserved, Command::StockReleased] {
        scene.apply(late, answer).await?;
    }
    let (order, _) = scene.get(late).await?;
    assert_eq!((order.status(), order.status_reason()), (OrderStatus::Rejected, StatusReason::StockExpired));
    Ok(())
}

#[tokio::test]
async fn an_order_without_an_answer_about_its_payment_gives_everything_back() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place_stocked().await?;
    publish(&scene).await?;
    let_it_be_late(&scene, order_id).await?;
    assert_eq!(look(&scene).await?, 1);
    assert_eq!(
        scene.said(order_id).await?[4..],
        [
            "order-status 3 OrderCompensating",
            "stock-requests 3 ReleaseStock",
            "payment-requests 3 RefundRequested",
        ]
    );
    // The provider had the money; billing gives it back.
    for answer in
        [Command::PaymentSucceeded, Command::PaymentRefunded { minor: 11_248 }, Command::StockReleased]
    {
        scene.apply(order_id, answer).await?;
    }
    let (order, _) = scene.get(order_id).await?;
    let end = (order.status(), order.status_reason());
    assert_eq!(end, (OrderStatus::Rejected, StatusReason::PaymentExpired));
    Ok(())
}

#[tokio::test]
async fn what_stays_unanswered_is_asked_for_again_and_then_an_operator_is_called() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (unshipped, owed) = (scene.place_confirmed().await?, scene.place_confirmed().await?);
    scene.cancel(owed).await?;
    for (order_id, asks, reason) in [
        (unshipped, vec!["stock-requests CommitStock"], StatusReason::ShipmentOverdue),
        (
            owed,
            vec!["stock-requests ReleaseStock", "payment-requests RefundRequested"],
            StatusReason::CompensationOverdue,
        ),
    ] {
        let said = scene.said(order_id).await?.len();
        let mut expected = Vec::new();
        let mut version = scene.get(order_id).await?.0.version;
        for _ in 0..REPEATS {
            publish(&scene).await?;
            let_it_be_late(&scene, order_id).await?;
            assert_eq!(look(&scene).await?, 1);
            version += 1;
            expected.push(format!("order-status {version} OrderProgressed"));
            for asked in &asks {
                let (topic, name) = asked.split_once(' ').expect("a topic and a name");
                expected.push(format!("{topic} {version} {name}"));
            }
        }
        let (order, _) = scene.get(order_id).await?;
        assert_ne!(order.status(), OrderStatus::NeedsAttention);
        publish(&scene).await?;
        let_it_be_late(&scene, order_id).await?;
        assert_eq!(look(&scene).await?, 1);
        expected.push(format!("order-status {} OrderNeedsAttention", version + 1));
        assert_eq!(scene.said(order_id).await?[said..], expected);
        let (order, _) = scene.get(order_id).await?;
        let parked = (order.status(), order.status_reason(), order.deadline);
        assert_eq!(parked, (OrderStatus::NeedsAttention, reason, None));
        assert_eq!(scene.history(order_id).await?.last().map(String::as_str), Some("AttentionNeeded"));
        publish(&scene).await?;
        let_it_be_late(&scene, order_id).await?;
        assert_eq!(look(&scene).await?, 0, "it waits for nobody but the operator");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_many_replicas_look_each_deadline_passes_once() -> anyhow::Result<()> {
    const ORDERS: usize = 40;
    let scene = Scene::set().await?;
    let mut orders = Vec::new();
    for number in 0..ORDERS {
        orders.push(if number % 2 == 0 { scene.place().await? } else { scene.place_stocked().await? });
    }
    publish(&scene).await?;
    for order_id in &orders {
        let_it_be_late(&scene, *order_id).await?;
    }
    let horizon = outbox::published_until(&scene.pool, &TOPICS).await?;
    let replicas = (0..2).map(|_| {
        let orders = scene.orders();
        tokio::spawn(async move {
            let mut passed = 0;
            // Few at a time, so that both have something to do.
            loop {
                match orders.pass_deadlines(horizon, 3).await? {
                    0 => return Ok::<_, order::Error>(passed),
                    some => passed += some,
                }
            }
        })
    });
    let replicas: Vec<_> = replicas.collect();
    let mut passed = 0;
    for replica in replicas {
        passed += replica.await??;
    }
    assert_eq!(passed, ORDERS);
    for order_id in orders {
        let history = scene.history(order_id).await?;
        let undone = history.iter().filter(|event| *event == "CompensationStarted").count();
        assert_eq!((undone, history.last().map(String::as_str)), (1, Some("CompensationStarted")));
        let said = scene.said(order_id).await?;
        assert_eq!(said.iter().filter(|said| said.ends_with("ReleaseStock")).count(), 1, "{said:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_is_being_handled_is_not_waited_for_and_counts() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place_stocked().await?;
    publish(&scene).await?;
    let_it_be_late(&scene, order_id).await?;
    let mut answer = outbox::UnitOfWork::begin(&scene.pool).await?;
    let deadlines = crate::scene::DEADLINES.into();
    let (_, told) = order::app::apply(&mut answer, order_id, Command::PaymentSucceeded, deadlines).await?;
    assert_eq!(look(&scene).await?, 0, "somebody is at this order");
    answer.commit(told).await?;
    publish(&scene).await?;
    assert_eq!(look(&scene).await?, 0, "it has been answered");
    assert_eq!(scene.get(order_id).await?.0.status(), OrderStatus::Confirmed);
    Ok(())
}

#[tokio::test]
async fn no_deadline_passes_while_its_request_is_unpublished() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let published = scene.place().await?;
    publish(&scene).await?;
    let waiting = scene.place().await?;
    // Both deadlines are over, one before and one after the other's request was written.
    let between: OffsetDateTime = outbox::published_until(&scene.pool, &TOPICS).await?;
    for (order_id, ago) in [(published, Duration::from_secs(1)), (waiting, Duration::ZERO)] {
        sqlx::query("update orders set deadline = $2 where order_id = $1")
            .bind(order_id)
            .bind(between + Duration::from_millis(1) - ago)
            .execute(&scene.superuser)
            .await?;
    }
    assert_eq!(look(&scene).await?, 1);
    assert_eq!(look(&scene).await?, 0, "the relay has stopped before this one");
    assert_eq!(scene.history(published).await?, ["OrderPlaced", "CompensationStarted"]);
    assert_eq!(scene.history(waiting).await?, ["OrderPlaced"]);
    publish(&scene).await?;
    assert_eq!(look(&scene).await?, 1);
    assert_eq!(scene.history(waiting).await?, ["OrderPlaced", "CompensationStarted"]);
    Ok(())
}

#[tokio::test]
async fn the_next_deadline_is_the_earliest_of_those_that_wait() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    assert_eq!(scene.orders().next_deadline().await?, None);
    let first = scene.place().await?;
    scene.place().await?;
    let deadline = scene.get(first).await?.0.deadline.expect("it waits");
    let next = scene.orders().next_deadline().await?.expect("two wait");
    assert_eq!((next.unix_timestamp(), next.nanosecond()), (deadline.seconds, deadline.nanos as u32));
    // The index has what waits, and nothing else.
    let index = "select count(*) from pg_indexes
                 where indexname = 'orders_deadline_idx' and indexdef like '%WHERE (deadline IS NOT NULL)'";
    assert_eq!(scene.count(index).await?, 1);
    Ok(())
}

#[tokio::test]
async fn an_order_that_cannot_be_read_does_not_keep_the_others() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (broken, good) = (scene.place().await?, scene.place().await?);
    for order_id in [broken, good] {
        let_it_be_late(&scene, order_id).await?;
    }
    sqlx::query("update orders set items = '{}' where order_id = $1")
        .bind(broken)
        .execute(&scene.superuser)
        .await?;
    publish(&scene).await?;
    assert_eq!(look(&scene).await?, 1);
    assert_eq!(scene.history(good).await?, ["OrderPlaced", "CompensationStarted"]);
    assert_eq!(look(&scene).await?, 0);
    Ok(())
}

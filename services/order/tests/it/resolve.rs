//! `ResolveOrder`: an operator lets an order go on that waits for one, and the history says why.

use order::domain::{Command, REPEATS};
use proto::order::v1::{OrderStatus, OrderTransition, Resolution, ResolveOrderRequest, StatusReason};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::scene::{CARRIER, Scene, fields, refusal, shipment};

async fn resolve(scene: &Scene, order_id: Uuid, resolution: Resolution) -> Result<(), Status> {
    let reason = " the warehouse has called \n".to_owned();
    let request =
        ResolveOrderRequest { order_id: order_id.to_string(), resolution: resolution.into(), reason };
    scene.api.clone().resolve_order(request).await.map(|_| ())
}

/// A paid order of which inventory holds nothing.
async fn parked(scene: &Scene) -> anyhow::Result<Uuid> {
    let order_id = scene.place_confirmed().await?;
    scene.apply(order_id, Command::CommitFailed).await?;
    Ok(order_id)
}

/// A cancelled order whose stock came back, and whose money does not.
async fn owed(scene: &Scene) -> anyhow::Result<Uuid> {
    let order_id = scene.place_confirmed().await?;
    scene.cancel(order_id).await?;
    scene.apply(order_id, Command::StockReleased).await?;
    for _ in 0..=REPEATS {
        scene.apply(order_id, Command::DeadlinePassed).await?;
    }
    Ok(order_id)
}

/// What an order says and tells from here on.
async fn since(scene: &Scene, order_id: Uuid, said: usize) -> anyhow::Result<Vec<String>> {
    Ok(scene.said(order_id).await?.split_off(said))
}

#[tokio::test]
async fn retry_asks_again_for_what_was_not_answered() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (unshipped, unpaid) = (parked(&scene).await?, owed(&scene).await?);
    for (order_id, status, asked, answer, end) in [
        (
            unshipped,
            OrderStatus::Confirmed,
            "stock-requests 7 CommitStock",
            Command::ShipmentScheduled(shipment(24)),
            OrderStatus::Confirmed,
        ),
        (
            unpaid,
            OrderStatus::Compensating,
            "payment-requests 13 RefundRequested",
            Command::PaymentRefunded { minor: 11_248 },
            OrderStatus::Cancelled,
        ),
    ] {
        let said = scene.said(order_id).await?.len();
        resolve(&scene, order_id, Resolution::Retry).await?;
        let (order, _) = scene.get(order_id).await?;
        assert_eq!(order.status(), status);
        assert!(order.deadline.is_some(), "it is waited for again");
        let (resolved, repeated) = (order.version - 1, order.version);
        let expected = [
            format!("order-status {resolved} OrderProgressed"),
            format!("order-status {repeated} OrderProgressed"),
            asked.to_owned(),
        ];
        assert_eq!(since(&scene, order_id, said).await?, expected);
        scene.apply(order_id, answer).await?;
        let (order, _) = scene.get(order_id).await?;
        assert_eq!((order.status(), order.deadline), (end, None));
        let history = scene.history(order_id).await?;
        assert!(history.join(" ").contains("AttentionNeeded OrderResolved RequestsRepeated"), "{history:?}");
    }
    Ok(())
}

#[tokio::test]
async fn cancel_undoes_everything_and_ends_when_all_has_come_back() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (unshipped, unpaid) = (parked(&scene).await?, owed(&scene).await?);
    for (order_id, asked) in [
        (
            unshipped,
            vec![
                "order-status 6 OrderProgressed",
                "order-status 7 OrderCompensating",
                "stock-requests 7 ReleaseStock",
                "payment-requests 7 RefundRequested",
            ],
        ),
        (
            unpaid,
            vec![
                "order-status 12 OrderProgressed",
                "order-status 13 OrderCompensating",
                "order-status 14 OrderProgressed",
                "payment-requests 14 RefundRequested",
            ],
        ),
    ] {
        let said = scene.said(order_id).await?.len();
        resolve(&scene, order_id, Resolution::Cancel).await?;
        assert_eq!(since(&scene, order_id, said).await?, asked);
        assert_eq!(scene.get(order_id).await?.0.status(), OrderStatus::Compensating);
        for answer in [Command::StockReleased, Command::PaymentRefunded { minor: 11_248 }] {
            scene.apply(order_id, answer).await?;
        }
        let (order, _) = scene.get(order_id).await?;
        assert_eq!(order.status(), OrderStatus::Cancelled);
        assert_eq!((order.status_reason(), order.deadline), (StatusReason::CancelledByOperator, None));
        assert_eq!(scene.history(order_id).await?.last().map(String::as_str), Some("OrderCancelled"));
    }
    Ok(())
}

#[tokio::test]
async fn close_ends_the_order_now_and_asks_for_nothing() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for order_id in [parked(&scene).await?, owed(&scene).await?] {
        let (order, _) = scene.get(order_id).await?;
        let (version, said) = (order.version, scene.said(order_id).await?.len());
        resolve(&scene, order_id, Resolution::Close).await?;
        let expected = [
            format!("order-status {} OrderProgressed", version + 1),
            format!("order-status {} OrderCancelled", version + 2),
            format!("notification-events {} NotificationRequested", version + 2),
        ];
        assert_eq!(since(&scene, order_id, said).await?, expected);
        let (order, _) = scene.get(order_id).await?;
        assert_eq!((order.status(), order.deadline), (OrderStatus::Cancelled, None));
        assert_eq!(order.status_reason(), StatusReason::CancelledByOperator);
        scene.history(order_id).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_others_do_after_an_order_was_closed_is_undone() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for (late, found, asked) in [
        (Command::ShipmentScheduled(shipment(24)), "LateStockFound", "stock-requests 8 ReleaseStock"),
        (Command::StockReserved, "LateStockFound", "stock-requests 8 ReleaseStock"),
        (Command::PaymentSucceeded, "LatePaymentFound", "payment-requests 8 RefundRequested"),
    ] {
        let order_id = parked(&scene).await?;
        resolve(&scene, order_id, Resolution::Close).await?;
        scene.apply(order_id, late).await?;
        assert_eq!(scene.history(order_id).await?.last().map(String::as_str), Some(found));
        assert_eq!(scene.said(order_id).await?.last().map(String::as_str), Some(asked));
        assert_eq!(scene.get(order_id).await?.0.status(), OrderStatus::Cancelled);
    }
    Ok(())
}

#[tokio::test]
async fn only_an_order_that_waits_for_an_operator_is_resolved() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let resolved = parked(&scene).await?;
    resolve(&scene, resolved, Resolution::Close).await?;
    let cancelling = scene.place().await?;
    scene.cancel(cancelling).await?;
    for order_id in [
        scene.place().await?,
        scene.place_stocked().await?,
        scene.place_confirmed().await?,
        cancelling,
        resolved,
    ] {
        let before = (scene.history(order_id).await?, scene.said(order_id).await?);
        for resolution in [Resolution::Retry, Resolution::Cancel, Resolution::Close] {
            let status = resolve(&scene, order_id, resolution).await.expect_err("nobody is waited for");
            assert_eq!(refusal(&status), (Code::FailedPrecondition, "NOT_RESOLVABLE".into()));
        }
        assert_eq!((scene.history(order_id).await?, scene.said(order_id).await?), before);
    }
    let status = resolve(&scene, Uuid::now_v7(), Resolution::Retry).await.expect_err("unknown");
    assert_eq!(refusal(&status), (Code::NotFound, "ORDER_NOT_FOUND".into()));
    Ok(())
}

#[tokio::test]
async fn a_wrong_resolution_is_refused_with_every_field_named() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = parked(&scene).await?;
    let before = scene.history(order_id).await?;
    let (good, retry) = (order_id.to_string(), i32::from(Resolution::Retry));
    for (order_id, resolution, reason, wrong) in [
        ("42", retry, "why".to_owned(), vec!["order_id"]),
        (good.as_str(), 0, "why".to_owned(), vec!["resolution"]),
        (&good, 99, "why".to_owned(), vec!["resolution"]),
        (&good, retry, String::new(), vec!["reason"]),
        (&good, retry, " \n ".to_owned(), vec!["reason"]),
        (&good, retry, "x".repeat(501), vec!["reason"]),
        (&good, retry, "\0".to_owned(), vec!["reason"]),
        ("", -1, String::new(), vec!["order_id", "resolution", "reason"]),
    ] {
        let request = ResolveOrderRequest { order_id: order_id.into(), resolution, reason };
        let status = scene.api.clone().resolve_order(request.clone()).await.expect_err("refused");
        assert_eq!(fields(&status), wrong, "{request:?}");
    }
    assert_eq!(scene.history(order_id).await?, before);
    let longest = ResolveOrderRequest { order_id: good, resolution: retry, reason: "ü".repeat(500) };
    scene.api.clone().resolve_order(longest).await?;
    Ok(())
}

#[tokio::test]
async fn the_history_says_when_why_and_what_else_is_known() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place_confirmed().await?;
    let shipment = shipment(24);
    let ship_time = shipment.ship_time;
    scene.apply(order_id, Command::CommitFailed).await?;
    resolve(&scene, order_id, Resolution::Retry).await?;
    scene.apply(order_id, Command::ShipmentScheduled(shipment)).await?;
    scene.cancel(order_id).await?;
    scene.apply(order_id, Command::PaymentRefunded { minor: 0 }).await?;
    scene.apply(order_id, Command::StockReleased).await?;
    let (order, history) = scene.get(order_id).await?;
    let told = |transition: &OrderTransition| {
        let status = transition.status().as_str_name().trim_start_matches("ORDER_STATUS_").to_owned();
        let reason = transition.status_reason().as_str_name().trim_start_matches("STATUS_REASON_").to_owned();
        (transition.event.clone(), status, reason, transition.detail.clone())
    };
    let day = ship_time.date();
    let expected = [
        ("OrderPlaced", "PENDING", "UNSPECIFIED", ""),
        ("StockReserved", "STOCK_RESERVED", "UNSPECIFIED", ""),
        ("PaymentSucceeded", "PAID", "UNSPECIFIED", ""),
        ("OrderConfirmed", "CONFIRMED", "UNSPECIFIED", ""),
        ("AttentionNeeded", "NEEDS_ATTENTION", "COMMIT_FAILED", ""),
        ("OrderResolved", "CONFIRMED", "UNSPECIFIED", "Retry: the warehouse has called"),
        ("RequestsRepeated", "CONFIRMED", "UNSPECIFIED", ""),
        ("ShipmentScheduled", "CONFIRMED", "UNSPECIFIED", "carrier"),
        ("CompensationStarted", "COMPENSATING", "CANCELLED_BY_CUSTOMER", ""),
        ("PaymentRefunded", "COMPENSATING", "CANCELLED_BY_CUSTOMER", "nothing had been charged"),
        ("StockReleased", "COMPENSATING", "CANCELLED_BY_CUSTOMER", ""),
        ("OrderCancelled", "CANCELLED", "CANCELLED_BY_CUSTOMER", ""),
    ];
    assert_eq!(history.len(), expected.len());
    for (is, (event, status, reason, detail)) in history.iter().zip(expected) {
        let mut is = told(is);
        if detail == "carrier" {
            assert!(is.3.starts_with(&format!("{CARRIER} fetches it at {day}")), "{}", is.3);
            is.3 = detail.to_owned();
        }
        assert_eq!(is, (event.to_owned(), status.to_owned(), reason.to_owned(), detail.to_owned()));
    }
    let times: Vec<(i64, i32)> =
        history.iter().flat_map(|told| told.event_time).map(|at| (at.seconds, at.nanos)).collect();
    assert!(times.len() == history.len() && times.is_sorted(), "{times:?}");
    assert_eq!(history[2].event_time, history[3].event_time, "both are one step");
    assert_eq!((history[0].event_time, history[11].event_time), (order.create_time, order.update_time));
    let versions: Vec<i32> = history.iter().map(|told| told.version).collect();
    assert_eq!(versions, (1..=12).collect::<Vec<_>>());
    Ok(())
}

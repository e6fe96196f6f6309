//! Orders that do not go well: each ends with a reason, and nothing of it is left behind in the warehouse or the ledger.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use cli::credentials::AUDIT;
use outbox::Source;
use proto::{
    billing::v1::PaymentRequested,
    money::v1::Money,
    notification::v1::NotificationKind::{
        OrderCancelled, OrderConfirmed, OrderRefunded, OrderRejected, OrderShipped, PaymentReceipt,
    },
    order::v1::{
        CancelOrderRequest, GetOrderResponse, Order, OrderStatus, Resolution, ResolveOrderRequest,
        StatusReason,
    },
};
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use serde_json::{Value, json};
use sqlx::PgPool;
use testkit::{Dedicated, Part, Platform, until};
use tonic::Code;
use uuid::Uuid;

use crate::{
    client::{SETTLE, cancel, orders, place, platform, platform_on, reached, shipped, stock, told},
    home::Home,
};

/// A deadline that a test can wait for.
const SOON: &str = "3s";

#[tokio::test]
async fn an_order_can_be_cancelled_in_every_state() -> anyhow::Result<()> {
    let mut platform = platform().await?;
    platform.kill(Part::Inventory)?;
    let pending = place(&platform, "tok_ok").await?;
    cancel(&platform, &pending.order_id).await?;
    let undone = reached(&platform, &pending.order_id, OrderStatus::Compensating).await?;
    assert_eq!(reason(&undone)?, StatusReason::CancelledByCustomer);
    platform.restart(Part::Inventory).await?;
    let history = history(&reached(&platform, &pending.order_id, OrderStatus::Cancelled).await?);
    assert_eq!(history, ["OrderPlaced", "CompensationStarted", "StockReleased", "OrderCancelled"]);
    assert_eq!(told(&platform, &pending.order_id, 1).await?, [OrderCancelled]);
    assert_eq!(moved(&platform, &pending)?, [], "billing never heard of it");

    platform.kill(Part::Billing)?;
    let reserved = place(&platform, "tok_ok").await?;
    reached(&platform, &reserved.order_id, OrderStatus::StockReserved).await?;
    cancel(&platform, &reserved.order_id).await?;
    platform.restart(Part::Billing).await?;
    reached(&platform, &reserved.order_id, OrderStatus::Cancelled).await?;
    // Once more is no error.
    cancel(&platform, &reserved.order_id).await?;
    assert_eq!(moved(&platform, &reserved)?, [], "what was asked back before it was called is never charged");

    let declined = place(&platform, "tok_declined").await?;
    reached(&platform, &declined.order_id, OrderStatus::Rejected).await?;
    let request = CancelOrderRequest { order_id: declined.order_id };
    let refused = orders(&platform).await?.cancel_order(request).await.expect_err("it has ended");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    nothing_is_reserved(&platform).await
}

#[tokio::test]
async fn a_payment_that_succeeds_after_the_cancellation_is_given_back() -> anyhow::Result<()> {
    let mut platform = platform().await?;
    platform.expect_log("outcome unknown, asking again");
    outage(&platform, true).await?;
    let order = place(&platform, "tok_ok").await?;
    asked(&platform, &order).await?;
    // The refund is asked for while nobody knows whether there is anything to give back.
    cancel(&platform, &order.order_id).await?;
    reached(&platform, &order.order_id, OrderStatus::Compensating).await?;
    outage(&platform, false).await?;
    reached(&platform, &order.order_id, OrderStatus::Cancelled).await?;
    let price = order.total.as_ref().context("a total")?.minor;
    assert_eq!(moved(&platform, &order)?, [("charge".to_owned(), price), ("refund".to_owned(), price)]);
    assert_eq!(told(&platform, &order.order_id, 3).await?, [PaymentReceipt, OrderCancelled, OrderRefunded]);
    nothing_is_reserved(&platform).await
}

#[tokio::test]
async fn a_provider_that_is_down_until_the_deadline_rejects_the_order_and_keeps_no_money()
-> anyhow::Result<()> {
    let mut platform = platform().await?;
    for text in ["outcome unknown, asking again", "a deadline has passed"] {
        platform.expect_log(text);
    }
    platform.configure(Part::Order, "ORDERLY_PAYMENT_DEADLINE", SOON).await?;
    platform.configure(Part::Order, "ORDERLY_COMPENSATION_DEADLINE", "1s").await?;
    outage(&platform, true).await?;
    let order = place(&platform, "tok_ok").await?;
    asked(&platform, &order).await?;

    // It is undone, asked again and again, and at last an operator has to look.
    let parked = reached(&platform, &order.order_id, OrderStatus::NeedsAttention).await?;
    assert_eq!(reason(&parked)?, StatusReason::CompensationOverdue);
    let repeats = history(&parked).into_iter().filter(|event| event == "RequestsRepeated").count();
    assert_eq!(repeats, 4);
    let last = parked.history.last().context("a history")?;
    assert_eq!(
        (last.event.as_str(), last.status_reason()),
        ("AttentionNeeded", StatusReason::CompensationOverdue)
    );

    // What was in doubt turns out to have been taken, is given back, and ends the order.
    outage(&platform, false).await?;
    let ended = reached(&platform, &order.order_id, OrderStatus::Rejected).await?;
    assert_eq!(reason(&ended)?, StatusReason::PaymentExpired);
    let balance: i64 = moved(&platform, &order)?
        .iter()
        .map(|(kind, minor)| if kind == "charge" { *minor } else { -minor })
        .sum();
    assert_eq!(balance, 0);
    assert!(told(&platform, &order.order_id, 1).await?.contains(&OrderRejected));
    nothing_is_reserved(&platform).await
}

#[tokio::test]
async fn a_refund_that_fails_for_a_while_is_made_in_the_end() -> anyhow::Result<()> {
    let mut platform = platform().await?;
    platform.expect_log("outcome unknown, asking again");
    let order = place(&platform, "tok_ok").await?;
    shipped(&platform, &order.order_id).await?;
    outage(&platform, true).await?;
    cancel(&platform, &order.order_id).await?;
    let before = attempts(&platform, &order).await?;
    until("the refund has failed", SETTLE, || async {
        Ok((attempts(&platform, &order).await? > before).then_some(()))
    })
    .await?;
    reached(&platform, &order.order_id, OrderStatus::Compensating).await?;
    outage(&platform, false).await?;
    reached(&platform, &order.order_id, OrderStatus::Cancelled).await?;
    let price = order.total.as_ref().context("a total")?.minor;
    assert_eq!(moved(&platform, &order)?, [("charge".to_owned(), price), ("refund".to_owned(), price)]);
    nothing_is_reserved(&platform).await
}

#[tokio::test]
async fn a_payment_request_that_is_replayed_a_week_later_charges_nobody() -> anyhow::Result<()> {
    let mut platform = platform().await?;
    // The order service has no such order as the forgotten one.
    platform.expect_log("dead letter");
    let paid = place(&platform, "tok_ok").await?;
    shipped(&platform, &paid.order_id).await?;
    let declined = place(&platform, "tok_declined").await?;
    reached(&platform, &declined.order_id, OrderStatus::Rejected).await?;
    let forgotten = Order {
        order_id: Uuid::now_v7().to_string(),
        payment_id: Uuid::now_v7().to_string(),
        ..paid.clone()
    };
    let before = [moved(&platform, &paid)?, moved(&platform, &declined)?];
    for order in [&paid, &declined, &forgotten] {
        request_payment(&platform, order, Duration::from_secs(7 * 86_400)).await?;
    }
    // The one that billing has never heard of is refused, with an answer; it comes after the others of its partition only.
    let status =
        until("billing has an answer", SETTLE, || async { payment(&platform, &forgotten, "status").await });
    assert_eq!(status.await?, "FAILED");
    assert_eq!(payment(&platform, &forgotten, "failure").await?.as_deref(), Some("EXPIRED"));
    assert_eq!([moved(&platform, &paid)?, moved(&platform, &declined)?], before);
    assert_eq!(moved(&platform, &forgotten)?, []);
    Ok(())
}

#[tokio::test]
async fn deadlines_that_pass_while_kafka_is_away_end_orders_only_when_it_is_back() -> anyhow::Result<()> {
    let mut kafka = Dedicated::kafka().await?;
    let mut platform = platform_on(kafka.with_shared().await?).await?;
    for text in ["database", "kafka", "batch rolled back", "outbox", "lease", "deadline"] {
        platform.expect_log(text);
    }
    platform.configure(Part::Order, "ORDERLY_STOCK_DEADLINE", SOON).await?;
    // Answered, and the answer not read: the deadline passes meanwhile.
    let order_down = place(&platform, "tok_ok").await?;
    platform.kill(Part::Order)?;
    kafka.kill().await?;
    platform.restart(Part::Order).await?;
    let mut placed = vec![order_down];
    for _ in 0..10 {
        placed.push(place(&platform, "tok_ok").await?);
    }
    let pool = platform.order.superuser().await?;
    until("every deadline has passed for two seconds", SETTLE, || async {
        let passed: Option<bool> =
            sqlx::query_scalar("select max(deadline) < now() - interval '2 s' from orders")
                .fetch_one(&pool)
                .await?;
        Ok(passed.filter(|passed| *passed))
    })
    .await?;
    let undone: i64 =
        sqlx::query_scalar("select count(*) from order_events where event = 'CompensationStarted'")
            .fetch_one(&pool)
            .await?;
    assert_eq!(undone, 0, "a deadline has passed before its request was published");
    kafka.start().await?;
    for order in &placed {
        let answer = until("the order has ended", SETTLE, || async {
            let answer = reached_any(&platform, &order.order_id).await?;
            Ok(answer.order.as_ref().is_some_and(|order| order.deadline.is_none()).then_some(answer))
        })
        .await?;
        let (status, why) = (answer.order.as_ref().context("an order")?.status(), reason(&answer)?);
        let ended = [
            (OrderStatus::Rejected, StatusReason::StockExpired),
            (OrderStatus::Confirmed, StatusReason::Unspecified),
        ];
        assert!(ended.contains(&(status, why)), "{status:?} {why:?}");
    }
    pool.close().await;
    nothing_is_reserved(&platform).await
}

#[tokio::test]
async fn an_answer_that_is_read_after_the_deadline_counts() -> anyhow::Result<()> {
    let mut platform = platform().await?;
    platform.expect_log("deadline");
    platform.configure(Part::Order, "ORDERLY_STOCK_DEADLINE", SOON).await?;
    platform.kill(Part::Inventory)?;
    let order = place(&platform, "tok_ok").await?;
    published(&platform, &order).await?;
    platform.kill(Part::Order)?;
    platform.restart(Part::Inventory).await?;
    let inventory = platform.inventory.superuser().await?;
    let orders = platform.order.superuser().await?;
    let state = "select state from reservations where order_id = $1";
    until("inventory has answered", SETTLE, || async {
        let state: Option<String> =
            sqlx::query_scalar(state).bind(id(&order)?).fetch_optional(&inventory).await?;
        Ok(state)
    })
    .await?;
    until("the deadline has passed", SETTLE, || async {
        let passed: bool = sqlx::query_scalar("select deadline < now() from orders where order_id = $1")
            .bind(id(&order)?)
            .fetch_one(&orders)
            .await?;
        Ok(passed.then_some(()))
    })
    .await?;
    platform.restart(Part::Order).await?;
    let answer = until("the order has ended", SETTLE, || async {
        let answer = reached_any(&platform, &order.order_id).await?;
        Ok(answer.order.as_ref().is_some_and(|order| order.deadline.is_none()).then_some(answer))
    })
    .await?;
    // Inventory may have taken the request too late, and says so; the order service never says it for inventory.
    let history = history(&answer);
    assert!(!history.contains(&"CompensationStarted".to_owned()), "{history:?}");
    inventory.close().await;
    orders.close().await;
    nothing_is_reserved(&platform).await
}

#[tokio::test]
async fn an_operator_ends_what_nobody_answers() -> anyhow::Result<()> {
    let mut platform = platform().await?;
    platform.expect_log("a deadline has passed");
    for (variable, value) in [("ORDERLY_COMPENSATION_DEADLINE", "1s"), ("ORDERLY_SHIPMENT_DEADLINE", "1s")] {
        platform.configure(Part::Order, variable, value).await?;
    }
    let order = place(&platform, "tok_ok").await?;
    shipped(&platform, &order.order_id).await?;
    let early =
        resolve(&platform, &order, Resolution::Close, "too early").await.expect_err("it waits for nobody");
    assert_eq!(early.code(), Code::FailedPrecondition, "{early}");

    platform.kill(Part::Inventory)?;
    cancel(&platform, &order.order_id).await?;
    let parked = reached(&platform, &order.order_id, OrderStatus::NeedsAttention).await?;
    assert_eq!(reason(&parked)?, StatusReason::CompensationOverdue);
    // Asked again, with nobody there to answer.
    resolve(&platform, &order, Resolution::Retry, "inventory is back soon").await?;
    reached(&platform, &order.order_id, OrderStatus::NeedsAttention).await?;
    platform.restart(Part::Inventory).await?;
    let ended = reached(&platform, &order.order_id, OrderStatus::Cancelled).await?;
    let resolved = ended.history.iter().find(|step| step.event == "OrderResolved").context("an operator")?;
    assert_eq!(resolved.detail, "Retry: inventory is back soon");
    assert_eq!(
        told(&platform, &order.order_id, 5).await?,
        [PaymentReceipt, OrderConfirmed, OrderCancelled, OrderRefunded, OrderShipped]
    );
    nothing_is_reserved(&platform).await
}

fn reason(answer: &GetOrderResponse) -> anyhow::Result<StatusReason> {
    Ok(answer.order.as_ref().context("an order")?.status_reason())
}

fn history(answer: &GetOrderResponse) -> Vec<String> {
    answer.history.iter().map(|step| step.event.clone()).collect()
}

fn id(order: &Order) -> anyhow::Result<Uuid> {
    Ok(order.order_id.parse()?)
}

async fn reached_any(platform: &Platform, order_id: &str) -> anyhow::Result<GetOrderResponse> {
    let request = proto::order::v1::GetOrderRequest { order_id: order_id.to_owned() };
    Ok(orders(platform).await?.get_order(request).await?.into_inner())
}

async fn resolve(
    platform: &Platform,
    order: &Order,
    resolution: Resolution,
    reason: &str,
) -> Result<(), tonic::Status> {
    let request = ResolveOrderRequest {
        order_id: order.order_id.clone(),
        resolution: resolution.into(),
        reason: reason.to_owned(),
    };
    let mut client = orders(platform).await.map_err(|error| tonic::Status::unknown(error.to_string()))?;
    client.resolve_order(request).await.map(drop)
}

/// Switches an outage of the whole provider.
async fn outage(platform: &Platform, on: bool) -> anyhow::Result<()> {
    let url = format!("http://{}/v1/outage", platform.admin(Part::Provider));
    reqwest::Client::new().put(url).json(&json!({ "on": on })).send().await?.error_for_status()?;
    Ok(())
}

/// Waits until billing has asked the provider at least once: from then on only the provider knows.
async fn asked(platform: &Platform, order: &Order) -> anyhow::Result<()> {
    until("the provider was asked", SETTLE, || async {
        Ok((attempts(platform, order).await? > 0).then_some(()))
    })
    .await
}

async fn attempts(platform: &Platform, order: &Order) -> anyhow::Result<i64> {
    let attempts = payment(platform, order, "attempts::text").await?;
    Ok(attempts.map_or(Ok(0), |attempts| attempts.parse())?)
}

/// A column of an order's payment, as text.
async fn payment(platform: &Platform, order: &Order, column: &'static str) -> anyhow::Result<Option<String>> {
    let pool: PgPool = platform.billing.superuser().await?;
    let select = format!("select {column} from payments where payment_id = $1");
    let payment_id: Uuid = order.payment_id.parse()?;
    let value: Option<Option<String>> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(select)).bind(payment_id).fetch_optional(&pool).await?;
    pool.close().await;
    Ok(value.flatten())
}

/// What the provider's own ledger says of an order's payment: kinds and amounts, in their order.
fn moved(platform: &Platform, order: &Order) -> anyhow::Result<Vec<(String, i64)>> {
    let ledger = fs::read_to_string(platform.ledger(Part::Provider)).unwrap_or_default();
    let lines = ledger.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let of_payment = lines.iter().filter(|line| line["payment_id"] == order.payment_id.as_str());
    let money = of_payment.filter(|line| line["kind"] != "decline");
    let moved = money.map(|line| {
        let kind = line["kind"].as_str().context("a kind")?.to_owned();
        Ok((kind, line["minor"].as_i64().context("an amount")?))
    });
    moved.collect()
}

/// Waits until inventory holds nothing for anybody.
async fn nothing_is_reserved(platform: &Platform) -> anyhow::Result<()> {
    until("nothing is reserved", SETTLE, || async {
        Ok((stock(platform, "gaming-mouse").await?.reserved == 0).then_some(()))
    })
    .await
}

/// Waits until everything that the order service has told of an order is published.
async fn published(platform: &Platform, order: &Order) -> anyhow::Result<()> {
    let pool = platform.order.superuser().await?;
    let left = "select count(*) from outbox.event, outbox.cursor
        where aggregate_id = $1 and not pg_visible_in_snapshot(xid, snap)";
    until("the order is published", SETTLE, || async {
        let left: i64 = sqlx::query_scalar(left).bind(&order.order_id).fetch_one(&pool).await?;
        Ok((left == 0).then_some(()))
    })
    .await?;
    pool.close().await;
    Ok(())
}

/// Puts a request on the topic whose deadline was so long ago.
async fn request_payment(platform: &Platform, order: &Order, ago: Duration) -> anyhow::Result<()> {
    let request = PaymentRequested {
        payment_id: order.payment_id.clone(),
        order_id: order.order_id.clone(),
        customer_id: order.customer_id.clone(),
        amount: Some(Money { currency: "EUR".to_owned(), minor: 4_999 }),
        payment_token: "tok_ok".to_owned(),
        not_after: Some((SystemTime::now() - ago).into()),
    };
    let event = Source::new("/orderly/order").event("payment-requests", id(order)?, 99, &request);
    let mut headers = OwnedHeaders::new();
    for (key, value) in event.headers.iter() {
        headers = headers.insert(Header { key, value });
    }
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", platform.kafka()).create()?;
    let topic = format!("{}payment-requests", platform.prefix);
    let payload = event.payload.unwrap_or_default();
    let record = FutureRecord::to(&topic).key(&order.order_id).payload(&payload).headers(headers);
    producer.send(record, Duration::from_secs(10)).await.map_err(|(error, _)| error)?;
    Ok(())
}

#[tokio::test]
async fn an_audit_waits_for_no_provider_where_an_operator_answers_for_the_order() -> anyhow::Result<()> {
    let mut platform = platform().await?;
    for text in ["outcome unknown, asking again", "a deadline has passed"] {
        platform.expect_log(text);
    }
    platform.configure(Part::Order, "ORDERLY_PAYMENT_DEADLINE", SOON).await?;
    platform.configure(Part::Order, "ORDERLY_COMPENSATION_DEADLINE", "1s").await?;
    let home = Home::of(&platform).await?;
    let paid = place(&platform, "tok_ok").await?;
    shipped(&platform, &paid.order_id).await?;
    outage(&platform, true).await?;
    let order = place(&platform, "tok_ok").await?;
    asked(&platform, &order).await?;
    let open = format!("payment {}", order.payment_id);
    let early = home.orderly(AUDIT, &["verify", "--json", "--settle", "0s"]).await?;
    assert!(early.code == Some(1) && early.data.contains(&open), "{early:?}");

    let holds = async || {
        let said = home.orderly(AUDIT, &["verify", "--json"]).await?;
        let note = format!(
            "1 payment has no outcome yet, and an operator answers for its order: {}",
            order.payment_id
        );
        assert!(said.code == Some(0) && said.data.contains(&note), "{said:?}");
        anyhow::Ok(())
    };
    reached(&platform, &order.order_id, OrderStatus::NeedsAttention).await?;
    holds().await?;
    resolve(&platform, &order, Resolution::Close, "the provider has gone out of business").await?;
    reached(&platform, &order.order_id, OrderStatus::Cancelled).await?;
    told(&platform, &order.order_id, 1).await?;
    assert!(matches!(payment(&platform, &order, "status").await?.as_deref(), Some("PENDING" | "REFUNDING")));
    holds().await
}

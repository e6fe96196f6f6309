//! PostgreSQL or Kafka away, at start and under load: clear answers, true health, and nothing lost or doubled.

use std::{collections::BTreeSet, fs, time::Duration};

use proto::{
    notification::v1::NotificationKind::{OrderConfirmed, OrderShipped, PaymentReceipt},
    order::v1::{CreateOrderRequest, OrderStatus},
};
use testkit::{Dedicated, Part, Platform, until};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::client::{
    Orders, SETTLE, channel, insist, mouse, orders, place, platform_on, reached, shipped, told,
};

/// What the parts log about a server that is away.
const OUTAGE: [&str; 8] =
    ["database", "kafka", "batch rolled back", "outbox", "dispatch", "lease", "deadlines", "catalogue"];

async fn platform_beside(server: &Dedicated) -> anyhow::Result<Platform> {
    let mut platform = platform_on(server.with_shared().await?).await?;
    for text in OUTAGE {
        platform.expect_log(text);
    }
    Ok(platform)
}

#[tokio::test]
async fn postgres_goes_and_comes_back() -> anyhow::Result<()> {
    let mut postgres = Dedicated::postgres().await?;
    let mut platform = platform_beside(&postgres).await?;
    let mut watch = HealthClient::new(channel(&platform, Part::Order).await?)
        .watch(HealthCheckRequest { service: SERVICE.to_owned() })
        .await?
        .into_inner();
    assert_eq!(watch.message().await?.map(|answer| answer.status()), Some(ServingStatus::Serving));

    // Under load, with one request id for an order however often it has to be sent.
    let stop = CancellationToken::new();
    let load = tokio::spawn(load(orders(&platform).await?, stop.clone()));
    until("orders are accepted", SETTLE, || async { Ok((accepted(&platform).await? > 5).then_some(())) })
        .await?;
    postgres.kill().await?;
    let told_down = tokio::time::timeout(SETTLE, watch.message()).await??;
    assert_eq!(told_down.map(|answer| answer.status()), Some(ServingStatus::NotServing));
    assert_eq!(health(&platform, "").await?, ServingStatus::Serving, "the process itself is well");
    let refused = orders(&platform).await?.create_order(mouse("tok_ok")).await.expect_err("no database");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let reason = refused.get_error_details().error_info().map(|info| info.reason.clone());
    assert_eq!(reason.as_deref(), Some("DEPENDENCY_UNAVAILABLE"));

    // At start.
    for part in Part::SERVICES.into_iter().chain([Part::Relay]) {
        assert_eq!(platform.terminate(part).await?, Some(0), "{part:?} stops without its database");
        platform.spawn(part)?;
    }
    for part in Part::SERVICES {
        let answer = until("it says what it waits for", SETTLE, || platform.readyz(part)).await?;
        assert!(answer.starts_with("503 ") && answer.contains("database"), "{part:?}: {answer}");
    }
    assert_eq!(health(&platform, SERVICE).await?, ServingStatus::NotServing);
    assert_eq!(health(&platform, "").await?, ServingStatus::Serving);

    postgres.start().await?;
    for part in Part::SERVICES {
        until("it is ready", SETTLE, || async {
            Ok(platform.readyz(part).await?.filter(|answer| answer.starts_with("200")))
        })
        .await?;
    }
    assert_eq!(health(&platform, SERVICE).await?, ServingStatus::Serving);
    let before = accepted(&platform).await?;
    until("orders are accepted again", SETTLE, || async {
        Ok((accepted(&platform).await? > before).then_some(()))
    })
    .await?;
    stop.cancel();
    let placed = load.await??;
    each_confirmed_once(&platform, &placed).await
}

#[tokio::test]
async fn kafka_goes_and_comes_back() -> anyhow::Result<()> {
    let mut kafka = Dedicated::kafka().await?;
    let mut platform = platform_beside(&kafka).await?;
    let stop = CancellationToken::new();
    let load = tokio::spawn(load(orders(&platform).await?, stop.clone()));
    let first = place(&platform, "tok_ok").await?;
    reached(&platform, &first.order_id, OrderStatus::Confirmed).await?;

    kafka.kill().await?;
    let mut placed = BTreeSet::from([first.order_id]);
    for _ in 0..10 {
        placed.insert(place(&platform, "tok_ok").await?.order_id);
    }
    stop.cancel();
    placed.extend(load.await??);
    assert_eq!(health(&platform, SERVICE).await?, ServingStatus::Serving, "orders are accepted without it");
    for part in Part::SERVICES.into_iter().chain([Part::Relay]) {
        assert_eq!(platform.terminate(part).await?, Some(0), "{part:?} stops without Kafka");
        platform.restart(part).await?;
    }
    placed.insert(place(&platform, "tok_ok").await?.order_id);

    kafka.start().await?;
    each_confirmed_once(&platform, &placed).await
}

const SERVICE: &str = "orderly.order.v1.OrderService";

/// Places orders until it is told to stop; every one is sent again until it is accepted.
async fn load(client: Orders, stop: CancellationToken) -> anyhow::Result<BTreeSet<String>> {
    let mut placed = BTreeSet::new();
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    while !stop.is_cancelled() {
        pace.tick().await;
        let request = CreateOrderRequest { request_id: Uuid::new_v4().to_string(), ..mouse("tok_ok") };
        placed.insert(insist(client.clone(), request).await?.order_id);
    }
    Ok(placed)
}

async fn accepted(platform: &Platform) -> anyhow::Result<i64> {
    let pool = platform.order.superuser().await?;
    let count = sqlx::query_scalar("select count(*) from orders").fetch_one(&pool).await?;
    pool.close().await;
    Ok(count)
}

async fn health(platform: &Platform, service: &str) -> anyhow::Result<ServingStatus> {
    let mut client = HealthClient::new(channel(platform, Part::Order).await?);
    let answer = client.check(HealthCheckRequest { service: service.to_owned() }).await?;
    Ok(answer.into_inner().status())
}

async fn each_confirmed_once(platform: &Platform, placed: &BTreeSet<String>) -> anyhow::Result<()> {
    for order_id in placed {
        shipped(platform, order_id).await?;
        assert_eq!(told(platform, order_id, 3).await?, [PaymentReceipt, OrderConfirmed, OrderShipped]);
    }
    assert_eq!(usize::try_from(accepted(platform).await?)?, placed.len(), "an order without its caller");
    let charges = fs::read_to_string(platform.ledger(Part::Provider))?;
    assert_eq!(charges.lines().count(), placed.len());
    Ok(())
}

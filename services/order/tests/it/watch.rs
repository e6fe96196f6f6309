//! `WatchOrder` and `GetOrder`: every transition of an order, once and in order, until its end.

use std::{sync::Arc, time::Duration};

use consumer::KafkaArgs;
use order::{
    Config, OrderService,
    domain::{Command, Reason, Shipment},
};
use proto::order::v1::{
    GetOrderRequest, OrderStatus, OrderTransition, StatusReason, WatchOrderRequest, WatchOrderResponse,
    order_service_client::OrderServiceClient,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use service::App as _;
use sqlx::{PgPool, postgres::PgPoolOptions};
use telemetry::Metrics;
use time::OffsetDateTime;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

use crate::scene::{Client, DEADLINES, MAX_WATCHERS, Scene, apply, fields, refusal};

/// How long a transition may take to happen and be told, on a machine that is busy with other tests.
const WITHIN: Duration = Duration::from_secs(60);

/// A replica of the scene's service, with a pool, a Kafka and a bound of its own.
fn replica(pool: &PgPool, kafka: &KafkaArgs, max_watchers: usize) -> anyhow::Result<Client> {
    let nowhere = ([127, 0, 0, 1], 0).into();
    let config =
        Config { listen: nowhere, admin: nowhere, kafka: kafka.clone(), deadlines: DEADLINES, max_watchers };
    let shutdown = CancellationToken::new();
    let service = OrderService::build(&config, pool.clone(), &Metrics::new(), shutdown)?;
    Ok(OrderServiceClient::new(Arc::new(service).routes()))
}

async fn watch(
    api: &Client,
    order_id: impl ToString,
    after_version: i32,
) -> Result<Streaming<WatchOrderResponse>, Status> {
    let request = WatchOrderRequest { order_id: order_id.to_string(), after_version };
    Ok(api.clone().watch_order(request).await?.into_inner())
}

/// The next transition as `version event STATUS`; `end` after the last.
async fn next(stream: &mut Streaming<WatchOrderResponse>) -> anyhow::Result<String> {
    let told = timeout(WITHIN, stream.message()).await??;
    Ok(told.and_then(|told| told.transition).map_or("end".to_owned(), |transition| summary(&transition)))
}

/// Everything that a stream tells until it ends.
async fn all(mut stream: Streaming<WatchOrderResponse>) -> anyhow::Result<Vec<String>> {
    let mut told = Vec::new();
    loop {
        let next = next(&mut stream).await?;
        if next == "end" {
            return Ok(told);
        }
        told.push(next);
    }
}

fn summary(transition: &OrderTransition) -> String {
    let status = transition.status().as_str_name().trim_start_matches("ORDER_STATUS_");
    format!("{} {} {status}", transition.version, transition.event)
}

fn cancel() -> Command {
    Command::Cancel { at: OffsetDateTime::now_utc() }
}

fn shipped() -> Command {
    let ship_time = OffsetDateTime::now_utc() + Duration::from_secs(86_400);
    Command::ShipmentScheduled(Shipment { shipment_id: Uuid::now_v7(), carrier: "Parcel".into(), ship_time })
}

/// Ways in which an order comes to its end: commands, and what is told of them.
fn lives() -> [(Vec<Command>, &'static [&'static str]); 4] {
    [
        (
            vec![Command::StockReserved, Command::PaymentSucceeded, shipped()],
            &[
                "1 OrderPlaced PENDING",
                "2 StockReserved STOCK_RESERVED",
                "3 PaymentSucceeded PAID",
                "4 OrderConfirmed CONFIRMED",
                "5 ShipmentScheduled CONFIRMED",
            ],
        ),
        (
            vec![Command::StockRejected(Reason::OutOfStock)],
            &["1 OrderPlaced PENDING", "2 OrderRejected REJECTED"],
        ),
        (
            vec![cancel(), Command::StockReleased],
            &[
                "1 OrderPlaced PENDING",
                "2 CompensationStarted COMPENSATING",
                "3 StockReleased COMPENSATING",
                "4 OrderCancelled CANCELLED",
            ],
        ),
        (
            vec![
                Command::StockReserved,
                cancel(),
                Command::PaymentRefunded { minor: 0 },
                Command::StockReleased,
            ],
            &[
                "1 OrderPlaced PENDING",
                "2 StockReserved STOCK_RESERVED",
                "3 CompensationStarted COMPENSATING",
                "4 PaymentRefunded COMPENSATING",
                "5 StockReleased COMPENSATING",
                "6 OrderCancelled CANCELLED",
            ],
        ),
    ]
}

#[tokio::test]
async fn a_watcher_is_told_what_was_what_comes_and_that_it_has_ended() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for (commands, told) in lives() {
        let order_id = scene.place().await?;
        let mut first = watch(&scene.api, order_id, 0).await?;
        let mut later = watch(&scene.api, order_id, 1).await?;
        assert_eq!(next(&mut first).await?, told[0]);
        for command in commands {
            scene.apply(order_id, command).await?;
        }
        for expected in told[1..].iter().chain(&["end"]) {
            assert_eq!(next(&mut first).await?, *expected);
            assert_eq!(next(&mut later).await?, *expected);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_watcher_that_knows_of_more_than_there_is_ends_with_the_order() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    let mut stream = watch(&scene.api, order_id, 7).await?;
    scene.apply(order_id, Command::StockRejected(Reason::OutOfStock)).await?;
    assert_eq!(next(&mut stream).await?, "end");
    Ok(())
}

#[tokio::test]
async fn an_order_that_has_ended_is_told_from_the_version_on() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    for command in [cancel(), Command::StockReleased, Command::StockReserved, Command::StockReleased] {
        scene.apply(order_id, command).await?;
    }
    let history = [
        "1 OrderPlaced PENDING",
        "2 CompensationStarted COMPENSATING",
        "3 StockReleased COMPENSATING",
        "4 OrderCancelled CANCELLED",
        // Stock that was held after the end.
        "5 LateStockFound CANCELLED",
        "6 StockReleased CANCELLED",
    ];
    for after_version in 0..=7 {
        let told = all(watch(&scene.api, order_id, after_version as i32).await?).await?;
        assert_eq!(told, history.get(after_version..).unwrap_or_default(), "after {after_version}");
    }
    let get = GetOrderRequest { order_id: order_id.to_string() };
    let got = scene.api.clone().get_order(get).await?.into_inner();
    assert_eq!(got.history.iter().map(summary).collect::<Vec<_>>(), history);
    Ok(())
}

#[tokio::test]
async fn a_transition_says_why_and_when() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    scene.apply(order_id, Command::StockRejected(Reason::OutOfStock)).await?;
    let mut stream = watch(&scene.api, order_id, 0).await?;
    let mut transitions = Vec::new();
    while let Some(told) = timeout(WITHIN, stream.message()).await?? {
        transitions.extend(told.transition);
    }
    let get = GetOrderRequest { order_id: order_id.to_string() };
    let got = scene.api.clone().get_order(get).await?.into_inner();
    assert_eq!(transitions, got.history, "both tell the same");
    let order = got.order.expect("an answer has an order");
    assert_eq!((order.status(), order.version), (OrderStatus::Rejected, 2));
    let [first, last] = transitions.as_slice() else { anyhow::bail!("{transitions:?}") };
    assert_eq!((first.event_time, last.event_time), (order.create_time, order.update_time));
    assert_eq!(first.status_reason(), StatusReason::Unspecified);
    assert_eq!(last.status_reason(), StatusReason::OutOfStock);
    Ok(())
}

#[tokio::test]
async fn whoever_joins_at_any_moment_misses_nothing_and_is_told_nothing_twice() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let seed = std::env::var("ORDERLY_WATCH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let mut random = StdRng::seed_from_u64(seed);
    // The orders are changed by one replica, and watched through another.
    let pool = scene.database.app().await?;
    let other = replica(&pool, &scene.kafka, MAX_WATCHERS)?;
    let mut watchers = JoinSet::new();
    let mut orders = Vec::new();
    for _ in 0..100 {
        let (mut commands, told) = lives().choose(&mut random).expect("there are some").clone();
        commands.reverse();
        orders.push((scene.place().await?, commands, told));
    }
    // 500 watchers on 100 orders, in between whatever happens to them.
    let (mut joined, mut running) = (0, true);
    while joined < 500 || running {
        let (order_id, commands, told) = &mut orders[random.random_range(0..100)];
        if joined < 500 && random.random_bool(0.6) {
            joined += 1;
            let (api, order_id, told) = (other.clone(), *order_id, *told);
            let after = random.random_range(0..=told.len());
            watchers.spawn(async move {
                let stream = watch(&api, order_id, i32::try_from(after)?).await?;
                anyhow::Ok((all(stream).await?, &told[after..]))
            });
        } else if let Some(command) = commands.pop() {
            apply(&scene.pool, *order_id, command).await?;
        } else {
            running = orders.iter().any(|(_, commands, _)| !commands.is_empty());
        }
    }
    while let Some(watcher) = watchers.join_next().await {
        let (told, expected) =
            watcher?.map_err(|error| error.context(format!("ORDERLY_WATCH_SEED={seed}")))?;
        assert_eq!(told, expected, "ORDERLY_WATCH_SEED={seed}");
    }
    Ok(())
}

#[tokio::test]
async fn orders_are_watched_while_kafka_is_away() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let nowhere = KafkaArgs { kafka: format!("127.0.0.1:{}", free_port()?), prefix: String::new() };
    let api = replica(&scene.pool, &nowhere, MAX_WATCHERS)?;
    let order_id = scene.place().await?;
    let mut stream = watch(&api, order_id, 0).await?;
    assert_eq!(next(&mut stream).await?, "1 OrderPlaced PENDING");
    scene.apply(order_id, Command::StockRejected(Reason::OutOfStock)).await?;
    assert_eq!(next(&mut stream).await?, "2 OrderRejected REJECTED");
    assert_eq!(next(&mut stream).await?, "end");
    Ok(())
}

#[tokio::test]
async fn whoever_does_not_read_holds_nobody_up_and_misses_nothing() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for (commands, told) in lives() {
        let order_id = scene.place().await?;
        let slow = watch(&scene.api, order_id, 0).await?;
        let quick = watch(&scene.api, order_id, 0).await?;
        for command in commands {
            scene.apply(order_id, command).await?;
        }
        assert_eq!(all(quick).await?, told);
        assert_eq!(all(slow).await?, told);
    }
    Ok(())
}

#[tokio::test]
async fn a_thousand_streams_that_begin_at_once_need_one_connection() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let pool = PgPoolOptions::new().max_connections(1).connect(&scene.database.app_url()).await?;
    let api = replica(&pool, &scene.kafka, MAX_WATCHERS)?;
    let mut orders = Vec::new();
    for _ in 0..100 {
        orders.push(scene.place().await?);
    }
    let mut watchers = JoinSet::new();
    for number in 0..1_000 {
        let (api, order_id) = (api.clone(), orders[number % orders.len()]);
        watchers.spawn(async move { all(watch(&api, order_id, 1).await?).await });
    }
    for order_id in orders {
        scene.apply(order_id, Command::StockRejected(Reason::OutOfStock)).await?;
    }
    while let Some(told) = watchers.join_next().await {
        assert_eq!(told??, ["2 OrderRejected REJECTED"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_process_with_as_many_streams_as_it_may_have_refuses_the_next() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let api = replica(&scene.pool, &scene.kafka, 2)?;
    let order_id = scene.place().await?;
    let (first, _second) = (watch(&api, order_id, 0).await?, watch(&api, order_id, 0).await?);
    let refused = watch(&api, order_id, 0).await.expect_err("there are two");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("--max-watchers"), "{refused}");
    drop(first);
    testkit::until("a stream has gone", WITHIN, || async { Ok(watch(&api, order_id, 0).await.ok()) }).await?;
    // One that is refused takes no place.
    watch(&scene.api, Uuid::now_v7(), 0).await.expect_err("unknown");
    Ok(())
}

#[tokio::test]
async fn a_history_that_cannot_be_read_spoils_nothing_but_its_order() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (broken, sound) = (scene.place().await?, scene.place().await?);
    let mut others = [watch(&scene.api, broken, 1).await?, watch(&scene.api, sound, 1).await?];
    sqlx::query("insert into order_events (order_id, version, event, schema, data) values ($1, 2, 'Unheard', 9, '{}')")
        .bind(broken)
        .execute(&scene.superuser)
        .await?;
    let status = timeout(WITHIN, others[0].message()).await?.expect_err("unreadable");
    assert_eq!(refusal(&status), (Code::Internal, "INTERNAL".into()));
    scene.apply(sound, Command::StockRejected(Reason::OutOfStock)).await?;
    assert_eq!(next(&mut others[1]).await?, "2 OrderRejected REJECTED");
    Ok(())
}

#[tokio::test]
async fn a_database_that_says_nothing_does_not_silence_the_streams() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    let mut stream = watch(&scene.api, order_id, 1).await?;
    let mut silence = scene.superuser.begin().await?;
    sqlx::query("lock table order_events in access exclusive mode").execute(&mut *silence).await?;
    // Whoever waits is told, and goes on elsewhere; whoever comes is refused.
    let status = timeout(WITHIN, stream.message()).await?.expect_err("nothing can be read");
    assert_eq!(refusal(&status), (Code::Unavailable, "DEPENDENCY_UNAVAILABLE".into()));
    let status = timeout(WITHIN, watch(&scene.api, order_id, 1)).await?.expect_err("nothing can be read");
    assert_eq!(status.code(), Code::Unavailable);
    silence.rollback().await?;
    let watched = testkit::until("it answers again", WITHIN, || async {
        Ok(watch(&scene.api, order_id, 0).await.ok())
    });
    assert_eq!(next(&mut watched.await?).await?, "1 OrderPlaced PENDING");
    Ok(())
}

#[tokio::test]
async fn shutdown_sends_a_watcher_to_another_replica() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    let mut stream = watch(&scene.api, order_id, 0).await?;
    assert_eq!(next(&mut stream).await?, "1 OrderPlaced PENDING");
    scene.shutdown.cancel();
    let gone = stream.message().await.expect_err("the order has not ended");
    assert_eq!(gone.code(), Code::Unavailable, "{gone}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_watch_is_refused_before_it_begins() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    let status = watch(&scene.api, Uuid::now_v7(), 0).await.expect_err("unknown");
    assert_eq!(refusal(&status), (Code::NotFound, "ORDER_NOT_FOUND".into()));
    let status = watch(&scene.api, order_id, -1).await.expect_err("refused");
    assert_eq!(fields(&status), ["after_version"]);
    let status = watch(&scene.api, "42", i32::MIN).await.expect_err("refused");
    assert_eq!(fields(&status), ["order_id", "after_version"]);
    Ok(())
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

//! What inventory shows of itself moves with what happens.

use consumer::Handler as _;
use inventory::{handlers::StockRequests, metrics::Metrics};
use outbox::UnitOfWork;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::scene::{Ask, Scene, Way, item, record, run_with};

/// The value that `/metrics` shows of a time series.
fn shown(metrics: &telemetry::Metrics, series: &str) -> f64 {
    let text = metrics.text();
    let sample = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    sample.and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
}

/// Reserved, rejected, released and committed so far.
fn outcomes(metrics: &telemetry::Metrics) -> [f64; 4] {
    ["reserved", "rejected", "released", "committed"]
        .map(|outcome| shown(metrics, &format!("inventory_reservations_total{{outcome=\"{outcome}\"}}")))
}

#[tokio::test]
async fn each_state_that_a_reservation_comes_into_counts_once() -> anyhow::Result<()> {
    for way in [Way::Together, Way::Apart] {
        let scene = Scene::set().await?;
        scene.add("mug", 3).await?;
        let metrics = telemetry::Metrics::new();
        let handler = StockRequests::new(Metrics::register(&metrics));
        assert_eq!(outcomes(&metrics), [0.0; 4], "shown from the start");
        let [one, two, none, gone] = [(); 4].map(|()| Uuid::now_v7());
        let mug = |units| Ask::Reserve(vec![item("mug", units)]);
        let handle = async |asked: Vec<(Uuid, Ask)>| {
            let records: Vec<_> = asked.into_iter().map(|(order, ask)| record(0, order, ask)).collect();
            run_with(&handler, &scene.pool, &records, way).await.map(|_| outcomes(&metrics))
        };
        let reserved =
            handle(vec![(one, mug(1)), (two, mug(2)), (none, mug(1)), (gone, Ask::Release)]).await?;
        assert_eq!(reserved, [2.0, 1.0, 1.0, 0.0], "{way:?}");
        // What is asked for again is told again, and counts no more.
        assert_eq!(
            handle(vec![(one, mug(1)), (two, mug(2)), (gone, Ask::Release)]).await?,
            reserved,
            "{way:?}"
        );
        let settled = handle(vec![(one, Ask::Commit), (two, Ask::Release)]).await?;
        assert_eq!(settled, [2.0, 1.0, 2.0, 1.0], "{way:?}");
        assert_eq!(handle(vec![(one, Ask::Commit), (two, Ask::Release)]).await?, settled, "{way:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_was_rolled_back_does_not_count() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 3).await?;
    let metrics = telemetry::Metrics::new();
    let handler = StockRequests::new(Metrics::register(&metrics));
    let records = [(); 2].map(|()| record(0, Uuid::now_v7(), Ask::Reserve(vec![item("mug", 1)])));
    let mut work = UnitOfWork::begin(&scene.pool).await?;
    handler.handle_all(&mut work, &records.each_ref()).await?;
    drop(work);
    assert_eq!(outcomes(&metrics), [0.0; 4]);
    run_with(&handler, &scene.pool, &records, Way::Together).await?;
    assert_eq!(outcomes(&metrics), [2.0, 0.0, 0.0, 0.0]);
    Ok(())
}

#[tokio::test]
async fn the_oldest_open_reservation_is_shown_until_it_is_settled() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.add("mug", 3).await?;
    let metrics = telemetry::Metrics::new();
    let watched = Metrics::register(&metrics);
    let look = async || {
        let stop = CancellationToken::new();
        stop.cancel();
        watched.watch(&scene.pool, stop).await;
        shown(&metrics, "inventory_oldest_reservation_seconds")
    };
    assert_eq!((shown(&metrics, "inventory_oldest_reservation_seconds"), look().await), (0.0, 0.0));
    let order = Uuid::now_v7();
    scene.ask(order, Ask::Reserve(vec![item("mug", 1)])).await?;
    sqlx::query("update reservations set created_at = now() - interval '100 seconds'")
        .execute(&scene.pool)
        .await?;
    let oldest = look().await;
    assert!(oldest >= 100.0, "{oldest}");
    scene.ask(order, Ask::Commit).await?;
    assert_eq!(look().await, 0.0);
    scene.pool.close().await;
    assert!(look().await.is_nan(), "what cannot be read is unknown");
    Ok(())
}

/// It is asked every few seconds, in a table that only grows.
#[tokio::test]
async fn the_oldest_open_reservation_is_read_from_its_index() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    sqlx::raw_sql(
        "insert into reservations (order_id, version, state, items, bucket)
         select gen_random_uuid(), 1, case when n % 1000 = 0 then 'RESERVED' else 'RELEASED' end, '[]', 0
         from generate_series(1, 20000) as n;
         analyze reservations",
    )
    .execute(&scene.superuser)
    .await?;
    let explain = concat!("explain ", include_str!("../../src/sql/oldest_reservation.sql"));
    let plan: Vec<String> = sqlx::query_scalar(explain).fetch_all(&scene.pool).await?;
    let plan = plan.join("\n");
    assert!(plan.contains("reservations_open_idx") && !plan.contains("Seq Scan"), "{plan}");
    Ok(())
}

//! What the service shows of its orders: each thing once, and only once it is committed.

use std::{collections::BTreeMap, time::Duration};

use order::domain::Command;
use proto::{
    billing::v1::PaymentFailure,
    order::v1::{OrderItem, WatchOrderRequest},
};
use telemetry::Metrics;
use testkit::until;
use tonic::Code;
use uuid::Uuid;

use crate::{
    answers::Answers,
    records::Records,
    scene::{Scene, body, create, item, shipment},
};

/// Far longer than anything here takes.
const WITHIN: Duration = Duration::from_secs(60);

/// The value of a sample, which must be shown.
fn shown(metrics: &Metrics, sample: &str) -> f64 {
    let text = metrics.text();
    let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{sample} is not shown: {text}"))
}

/// `order_transitions_total` of the statuses into which orders have come.
fn transitions(metrics: &Metrics) -> BTreeMap<String, u64> {
    let text = metrics.text();
    let samples = text.lines().filter_map(|line| line.strip_prefix("order_transitions_total{status=\""));
    let counts = samples.filter_map(|sample| {
        let (status, count) = sample.split_once("\"} ")?;
        Some((status.to_owned(), count.parse().ok()?))
    });
    counts.filter(|(_, count)| *count > 0).collect()
}

fn counts<const N: usize>(expected: [(&str, u64); N]) -> BTreeMap<String, u64> {
    expected.map(|(status, count)| (status.to_owned(), count)).into()
}

async fn until_shown(metrics: &Metrics, sample: &str, expected: f64) -> anyhow::Result<()> {
    until(sample, WITHIN, || async { Ok((shown(metrics, sample) == expected).then_some(())) }).await
}

#[tokio::test]
async fn everything_is_shown_before_the_first_order() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for sample in [
        "order_transitions_total{status=\"CONFIRMED\"}",
        "order_rejections_total{reason=\"PAYMENT_DECLINED\"}",
        "order_decision_duration_seconds_count{status=\"REJECTED\"}",
        "order_deadlines_passed_total{wait=\"stock\"}",
        "order_open{status=\"NEEDS_ATTENTION\"}",
        "order_oldest_open_seconds{status=\"PAID\"}",
        "order_overdue",
        "order_horizon_age_seconds",
        "order_watchers",
    ] {
        assert_eq!(shown(&scene.metrics, sample), 0.0, "{sample}");
    }
    Ok(())
}

#[tokio::test]
async fn an_order_is_counted_once_on_its_way_however_often_its_answers_come() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (good, bad) = (scene.place().await?, scene.place().await?);
    assert_eq!(transitions(&scene.metrics), counts([("PENDING", 2)]));
    let (well, ill) = (Answers::to(&scene, good).await?, Answers::to(&scene, bad).await?);
    let records = Records::begin(&scene).await?;
    for _ in 0..2 {
        let id = records.send(&well.reserved()).await?;
        records.send_again(id, &well.reserved()).await?;
        records.send(&ill.reserved()).await?;
        records.settle().await?;
        records.send(&well.succeeded()).await?;
        records.send(&ill.failed(PaymentFailure::Declined)).await?;
        records.settle().await?;
        records.send(&well.shipped(&shipment(24))).await?;
        records.send(&ill.released()).await?;
        records.settle().await?;
    }
    let expected = [
        ("COMPENSATING", 1),
        ("CONFIRMED", 1),
        ("PAID", 1),
        ("PENDING", 2),
        ("REJECTED", 1),
        ("STOCK_RESERVED", 2),
    ];
    assert_eq!(transitions(&scene.metrics), counts(expected));
    for (sample, expected) in [
        ("order_rejections_total{reason=\"PAYMENT_DECLINED\"}", 1.0),
        ("order_rejections_total{reason=\"OUT_OF_STOCK\"}", 0.0),
        ("order_confirmed_amount_minor_units_total{currency=\"EUR\"}", 11_248.0),
        ("order_decision_duration_seconds_count{status=\"CONFIRMED\"}", 1.0),
        ("order_decision_duration_seconds_count{status=\"REJECTED\"}", 1.0),
        ("order_decision_duration_seconds_bucket{le=\"3600.0\",status=\"CONFIRMED\"}", 1.0),
    ] {
        assert_eq!(shown(&scene.metrics, sample), expected, "{sample}");
    }
    assert!(shown(&scene.metrics, "order_decision_duration_seconds_sum{status=\"CONFIRMED\"}") > 0.0);
    records.end().await
}

#[tokio::test]
async fn what_is_rolled_back_is_not_counted() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (first, second) = (scene.place().await?, scene.place().await?);
    let (of_first, of_second) = (Answers::to(&scene, first).await?, Answers::to(&scene, second).await?);
    // The commit of every transaction that goes on with an order is refused, until this is over.
    let refuse = "
        create function refuse() returns trigger language plpgsql as $$ begin raise exception using errcode = '40001'; end $$;
        create constraint trigger refuse after insert on order_events deferrable initially deferred
            for each row execute function refuse();";
    sqlx::raw_sql(refuse).execute(&scene.superuser).await?;
    assert_eq!(create(&scene.api, body()).await.expect_err("refused").code(), Code::Unavailable);
    assert!(scene.cancel(first).await.is_err());
    let records = Records::begin(&scene).await?;
    records.send(&of_first.reserved()).await?;
    records.send(&of_second.reserved()).await?;
    until("batches fail", WITHIN, || async {
        Ok((shown(&scene.metrics, "consumer_batch_failures_total{group=\"order\"}") >= 2.0).then_some(()))
    })
    .await?;
    assert_eq!(transitions(&scene.metrics), counts([("PENDING", 2)]));
    sqlx::raw_sql("drop trigger refuse on order_events").execute(&scene.superuser).await?;
    records.settle().await?;
    assert_eq!(transitions(&scene.metrics), counts([("PENDING", 2), ("STOCK_RESERVED", 2)]));
    scene.cancel(first).await?;
    scene.cancel(first).await?;
    let expected = [("COMPENSATING", 1), ("PENDING", 2), ("STOCK_RESERVED", 2)];
    assert_eq!(transitions(&scene.metrics), counts(expected), "a repeat is no transition");
    records.end().await
}

#[tokio::test]
async fn orders_that_are_placed_together_are_counted_each_and_refused_ones_are_not() -> anyhow::Result<()> {
    const CALLERS: usize = 30;
    let scene = Scene::set().await?;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..CALLERS {
        let (api, mut request) = (scene.api.clone(), body());
        if number % 3 == 0 {
            request.items = vec![OrderItem { ..item("nobody-sells-this", 1, 1) }];
        } else {
            // Each twice.
            request.request_id = Uuid::from_u128((number / 3) as u128 + 1).to_string();
        }
        calls.spawn(async move { create(&api, request).await.is_ok() });
    }
    let accepted = calls.join_all().await.into_iter().filter(|accepted| *accepted).count();
    assert_eq!(accepted, 2 * CALLERS / 3);
    assert_eq!(transitions(&scene.metrics), counts([("PENDING", CALLERS as u64 / 3)]));
    Ok(())
}

#[tokio::test]
async fn deadlines_are_counted_by_what_was_waited_for() -> anyhow::Result<()> {
    let (scene, metrics) = (Scene::set().await?, Metrics::new());
    let orders = scene.orders_shown_in(&metrics);
    let (stock, payment) = (scene.place().await?, scene.place_stocked().await?);
    scene.place().await?;
    let late = "update orders set deadline = now() - interval '1 hour' where order_id = any($1)";
    sqlx::query(late).bind(vec![stock, payment]).execute(&scene.superuser).await?;
    let now = time::OffsetDateTime::now_utc();
    assert_eq!((orders.pass_deadlines(now, 10).await?, orders.pass_deadlines(now, 10).await?), (2, 0));
    for (wait, expected) in [("stock", 1.0), ("payment", 1.0), ("shipment", 0.0), ("compensation", 0.0)] {
        assert_eq!(
            shown(&metrics, &format!("order_deadlines_passed_total{{wait=\"{wait}\"}}")),
            expected,
            "{wait}"
        );
    }
    assert_eq!(transitions(&metrics), counts([("COMPENSATING", 2)]));
    Ok(())
}

#[tokio::test]
async fn what_is_open_and_overdue_is_shown_by_every_replica() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (late, done) = (scene.place().await?, scene.place().await?);
    scene.place_stocked().await?;
    scene.apply(done, Command::StockRejected(order::domain::Reason::OutOfStock)).await?;
    // The relay has published nothing since before this deadline: it cannot pass.
    let old =
        "update orders set deadline = now() - interval '1 hour', updated_at = now() - interval '2 hours'
               where order_id = $1";
    sqlx::query(old).bind(late).execute(&scene.superuser).await?;
    let records = Records::begin(&scene).await?;
    until_shown(&scene.metrics, "order_overdue", 1.0).await?;
    for (status, expected) in [
        ("PENDING", 1.0),
        ("STOCK_RESERVED", 1.0),
        ("PAID", 0.0),
        ("COMPENSATING", 0.0),
        ("NEEDS_ATTENTION", 0.0),
    ] {
        assert_eq!(
            shown(&scene.metrics, &format!("order_open{{status=\"{status}\"}}")),
            expected,
            "{status}"
        );
    }
    let oldest =
        |status: &str| shown(&scene.metrics, &format!("order_oldest_open_seconds{{status=\"{status}\"}}"));
    assert!((7_200.0..10_000.0).contains(&oldest("PENDING")), "{}", oldest("PENDING"));
    assert!((0.0..3_600.0).contains(&oldest("STOCK_RESERVED")));
    until("the horizon is behind", WITHIN, || async {
        Ok((shown(&scene.metrics, "order_horizon_age_seconds") > 0.0).then_some(()))
    })
    .await?;
    records.end().await
}

#[tokio::test]
async fn a_stream_is_shown_as_long_as_it_is_open() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let request = WatchOrderRequest { order_id: scene.place().await?.to_string(), after_version: 0 };
    let mut streams = Vec::new();
    for _ in 0..2 {
        streams.push(scene.api.clone().watch_order(request.clone()).await?.into_inner());
    }
    assert_eq!(shown(&scene.metrics, "order_watchers"), 2.0);
    drop(streams.pop());
    until_shown(&scene.metrics, "order_watchers", 1.0).await?;
    drop(streams);
    until_shown(&scene.metrics, "order_watchers", 0.0).await
}

#[tokio::test]
async fn counting_what_is_open_reads_what_is_open_and_not_what_there_is() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    // As many that are done as a planner needs to prefer an index.
    let done = "insert into orders select (jsonb_populate_record(o, jsonb_build_object('order_id', gen_random_uuid(),
                    'payment_id', gen_random_uuid(), 'status', 'CONFIRMED', 'deadline', null))).*
                from orders as o, generate_series(1, 50000) where order_id = $1";
    sqlx::query(done).bind(order_id).execute(&scene.superuser).await?;
    sqlx::raw_sql("analyze orders").execute(&scene.superuser).await?;
    for (statement, index) in [
        (include_str!("../../src/sql/open_orders.sql"), "orders_status_idx"),
        ("select count(*) from orders where deadline <= now()", "orders_deadline_idx"),
    ] {
        let explain = sqlx::AssertSqlSafe(format!("explain {statement}"));
        let plan: Vec<String> = sqlx::query_scalar(explain).fetch_all(&scene.superuser).await?;
        let plan = plan.join("\n");
        assert!(plan.contains(index) && !plan.contains("Seq Scan"), "{plan}");
    }
    Ok(())
}

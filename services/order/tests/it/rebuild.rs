//! `orderly rebuild orders`: the view, made anew from the events, beside the running service.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use order::{
    domain::{Command, Reason, Shipment},
    rebuild::{Options, Progress, Report, rebuild},
};
use outbox::Roles;
use proto::order::v1::GetOrderRequest;
use rand::{SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use time::OffsetDateTime;
use tokio::{runtime::Handle, task::JoinHandle};
use tonic::Code;
use uuid::Uuid;

use crate::scene::{Client, Scene, apply, body, cancel, create, id};

const ROLES: Roles<'static> = Roles {
    app: "orderly_order_app",
    relay: "orderly_relay",
    audit: "orderly_audit",
    operator: "orderly_operator",
};
const COMPARE: Options = Options { swap: false, drop_old: false };
const SWAP: Options = Options { swap: true, drop_old: false };

async fn run(scene: &Scene, options: Options) -> anyhow::Result<Report> {
    rebuild(scene.superuser.connect_options().as_ref(), &ROLES, options, |_| {}).await
}

/// Each difference as `column live rebuilt`, by order.
fn told(report: &Report, order_id: Uuid) -> Vec<String> {
    let differences = report.differences.iter().filter(|difference| difference.order_id == order_id);
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    differences
        .map(|difference| {
            format!("{} {} {}", difference.column, text(&difference.live), text(&difference.rebuilt))
        })
        .collect()
}

/// Lives that use every column of the view.
fn lives() -> Vec<Vec<Command>> {
    let now = OffsetDateTime::now_utc();
    let shipment = Shipment {
        shipment_id: Uuid::now_v7(),
        carrier: "Parcel".into(),
        ship_time: now + Duration::from_secs(86_400),
    };
    vec![
        vec![],
        vec![Command::StockReserved],
        vec![Command::StockReserved, Command::PaymentSucceeded],
        vec![Command::StockReserved, Command::PaymentSucceeded, Command::ShipmentScheduled(shipment)],
        vec![Command::StockReserved, Command::PaymentSucceeded, Command::CommitFailed],
        vec![Command::StockReserved, Command::PaymentFailed(Reason::InsufficientFunds)],
        vec![Command::StockRejected(Reason::OutOfStock), Command::StockReserved],
        vec![Command::Cancel { at: now }, Command::DeadlinePassed, Command::DeadlinePassed],
        vec![Command::Cancel { at: now }, Command::StockReleased],
    ]
}

/// Customers who order and cancel until they are told to stop; the orders that were acknowledged to them.
struct Customers {
    enough: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<anyhow::Result<Vec<Uuid>>>>,
}

impl Customers {
    fn come(api: &Client, pool: &PgPool) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let tasks = (0..4).map(|_| {
            let (api, pool, enough) = (api.clone(), pool.clone(), Arc::clone(&enough));
            tokio::spawn(async move {
                let mut orders = Vec::new();
                while !enough.load(Ordering::Relaxed) {
                    let request_id = Uuid::now_v7().to_string();
                    let order_id = id(&create(&api, body_of(&request_id)).await?)?;
                    match orders.len() % 3 {
                        0 => drop(cancel(&api, order_id).await?),
                        1 => apply(&pool, order_id, Command::StockReserved).await?,
                        _ => {}
                    }
                    orders.push(order_id);
                }
                Ok(orders)
            })
        });
        Self { tasks: tasks.collect(), enough }
    }

    async fn go(self) -> anyhow::Result<Vec<Uuid>> {
        self.enough.store(true, Ordering::Relaxed);
        let mut orders = Vec::new();
        for task in self.tasks {
            orders.extend(task.await??);
        }
        Ok(orders)
    }
}

fn body_of(request_id: &str) -> proto::order::v1::CreateOrderRequest {
    proto::order::v1::CreateOrderRequest { request_id: request_id.to_owned(), ..body() }
}

/// Everything that the view's table is beside its rows: columns, indexes, rules, rights.
async fn shape(scene: &Scene) -> anyhow::Result<Value> {
    let shape = "
        select jsonb_build_object(
            'columns', (select jsonb_agg(jsonb_build_array(attnum, attname, atttypid, attnotnull, attacl::text) order by attnum)
                        from pg_attribute where attrelid = 'orders'::regclass and attnum > 0),
            'indexes', (select jsonb_agg(pg_get_indexdef(indexrelid) order by indexrelid::regclass::text)
                        from pg_index where indrelid = 'orders'::regclass),
            'rules', (select jsonb_agg(conname || ' ' || pg_get_constraintdef(oid) order by conname)
                      from pg_constraint where conrelid = 'orders'::regclass),
            'rights', (select relacl::text from pg_class where oid = 'orders'::regclass))";
    Ok(sqlx::query_scalar(shape).fetch_one(&scene.superuser).await?)
}

/// Tables and indexes that a rebuild has left behind.
async fn leftovers(scene: &Scene) -> anyhow::Result<Vec<String>> {
    let left = "select relname::text from pg_class where relname ~ 'rebuil'";
    Ok(sqlx::query_scalar(left).fetch_all(&scene.superuser).await?)
}

#[tokio::test]
async fn what_the_use_cases_wrote_is_what_their_events_make_while_orders_keep_coming() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let seed = u64::from(rand::random::<u32>());
    let (mut random, lives) = (StdRng::seed_from_u64(seed), lives());
    for _ in 0..60 {
        let order_id = id(&create(&scene.api, body_of(&Uuid::now_v7().to_string())).await?)?;
        for command in lives.choose(&mut random).expect("there are some") {
            scene.apply(order_id, command.clone()).await?;
        }
    }
    let customers = Customers::come(&scene.api, &scene.pool);
    let mut said = Vec::new();
    let report =
        rebuild(scene.superuser.connect_options().as_ref(), &ROLES, COMPARE, |step| said.push(step)).await?;
    let placed = customers.go().await?;
    assert_eq!(report.differences, [], "seed {seed}");
    assert!(report.orders >= 60 && report.events > report.orders, "{report:?}");
    assert!((60..=60 + placed.len() as u64).contains(&report.orders), "{report:?}");
    assert!(!report.swapped);
    assert!(said.contains(&Progress::Comparing) && !said.contains(&Progress::Swapping { attempt: 1 }));
    assert_eq!(leftovers(&scene).await?, Vec::<String>::new(), "comparing leaves nothing behind");
    Ok(())
}

#[tokio::test]
async fn what_is_damaged_is_found_named_and_mended() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let [wrong, lost, sound] = [scene.place().await?, scene.place().await?, scene.place().await?];
    let phantom = Uuid::now_v7();
    for (sql, order_id) in [
        ("update orders set status = 'CONFIRMED', total_minor = 1, stock = 'SHIPPED' where order_id = $1", wrong),
        ("update orders set version = 7 where order_id = $1", sound),
        ("delete from orders where order_id = $1", lost),
        (
            "insert into orders select (o).* from (
                 select jsonb_populate_record(orders, jsonb_build_object('order_id', $1)) as o from orders limit 1) as one",
            phantom,
        ),
    ] {
        assert_eq!(sqlx::query(sql).bind(order_id).execute(&scene.superuser).await?.rows_affected(), 1, "{sql}");
    }
    for options in [COMPARE, SWAP] {
        let report = run(&scene, options).await?;
        assert_eq!(
            told(&report, wrong),
            ["status CONFIRMED PENDING", "stock SHIPPED REQUESTED", "total_minor 1 11248"]
        );
        assert_eq!(told(&report, sound), ["version 7 1"]);
        assert_eq!(told(&report, lost), [format!("order_id - {lost}")]);
        assert_eq!(told(&report, phantom), [format!("order_id {phantom} -")]);
        assert_eq!((report.different_orders, report.different_values), (4, 6));
        assert_eq!((report.orders, report.events, report.swapped), (3, 3, options.swap));
    }
    assert_eq!(run(&scene, COMPARE).await?.differences, []);
    // Its deadline was lost with it; it must not wait for ever.
    let waits = "select count(*) from orders where deadline > now() and deadline < now() + interval '1 hour'";
    assert_eq!(scene.count(waits).await?, 3);
    for order_id in [wrong, lost, sound] {
        scene.apply(order_id, Command::StockReserved).await?;
    }
    let get = GetOrderRequest { order_id: phantom.to_string() };
    assert_eq!(scene.api.clone().get_order(get).await.expect_err("gone").code(), Code::NotFound);

    // The view that was swapped out is kept for whoever wants to look, without the tokens in it.
    assert_eq!(scene.count("select count(*) from orders_before_rebuild").await?, 3);
    let tokens = "select count(*) from pg_attribute
                  where attrelid = 'orders_before_rebuild'::regclass and attname = 'payment_token'";
    assert_eq!(scene.count(tokens).await?, 0);
    run(&scene, Options { drop_old: true, ..COMPARE }).await?;
    assert_eq!(scene.count("select count(to_regclass('orders_before_rebuild'))").await?, 0);
    Ok(())
}

#[tokio::test]
async fn events_from_before_there_was_stock_make_what_the_migration_made() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let cancelled = json!({ "reason": "CANCELLED_BY_CUSTOMER" });
    let none = || json!({});
    let lives = [
        ("PENDING", None, vec![]),
        ("CONFIRMED", None, vec![("PaymentSucceeded", none()), ("OrderConfirmed", none())]),
        (
            "REJECTED",
            Some("PAYMENT_DECLINED"),
            vec![("OrderRejected", json!({ "reason": "PAYMENT_DECLINED" }))],
        ),
        ("COMPENSATING", Some("CANCELLED_BY_CUSTOMER"), vec![("CancellationRequested", cancelled.clone())]),
        (
            "CANCELLED",
            Some("CANCELLED_BY_CUSTOMER"),
            vec![("CancellationRequested", cancelled.clone()), ("OrderCancelled", cancelled.clone())],
        ),
        (
            "CANCELLED",
            Some("CANCELLED_BY_CUSTOMER"),
            vec![
                ("CancellationRequested", cancelled.clone()),
                ("OrderCancelled", cancelled.clone()),
                ("LatePaymentFound", none()),
            ],
        ),
        (
            "REJECTED",
            Some("PAYMENT_EXPIRED"),
            vec![("OrderRejected", json!({ "reason": "PAYMENT_EXPIRED" })), ("LatePaymentFound", none())],
        ),
    ];
    let count = lives.len() as u64;
    for (status, reason, later) in lives {
        let (order_id, payment_id) = (Uuid::now_v7(), Uuid::now_v7());
        let price = json!({ "currency": "EUR", "minor": 250 });
        let items = json!([{ "product_id": "mouse-pad", "quantity": 2, "unit_price": price }]);
        let placed = json!({
            "customer_id": "cust-1", "items": items, "total": { "currency": "EUR", "minor": 500 },
            "payment_id": payment_id, "payment_token_hash": "ab",
        });
        let events = [("OrderPlaced", placed)].into_iter().chain(later);
        let mut version = 0;
        for (event, data) in events {
            version += 1;
            sqlx::query(
                "insert into order_events (order_id, version, event, schema, data, occurred_at)
                 values ($1, $2, $3, 1, $4, '2026-01-02 03:04:05+00')",
            )
            .bind(order_id)
            .bind(version)
            .bind(event)
            .bind(data)
            .execute(&scene.superuser)
            .await?;
        }
        sqlx::query(
            "insert into orders (order_id, customer_id, status, status_reason, version, items, currency, total_minor,
                                 payment_id, created_at, updated_at, stock, payment)
             values ($1, 'cust-1', $2, $3, $4, $5, 'EUR', 500, $6, '2026-01-02 03:04:05+00', '2026-01-02 03:04:05+00',
                     'NOT_WANTED', 'REQUESTED')",
        )
        .bind(order_id)
        .bind(status)
        .bind(reason)
        .bind(version)
        .bind(items)
        .bind(payment_id)
        .execute(&scene.superuser)
        .await?;
    }
    let migration = include_str!("../../migrations/0002_saga.sql");
    let update = migration.split_once("update orders\n").expect("it lifts rows").1;
    let update = format!("update orders {}", update.split_once(";\n").expect("it ends").0);
    assert_eq!(sqlx::raw_sql(AssertSqlSafe(update)).execute(&scene.superuser).await?.rows_affected(), count);
    let report = run(&scene, COMPARE).await?;
    assert_eq!((report.orders, report.differences), (count, vec![]));
    Ok(())
}

#[tokio::test]
async fn a_view_is_swapped_under_a_running_service_and_nothing_is_lost() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let before = shape(&scene).await?;
    let customers = Customers::come(&scene.api, &scene.pool);
    for _ in 0..3 {
        let report = run(&scene, SWAP).await?;
        assert_eq!((report.differences, report.swapped), (vec![], true));
        assert_eq!(shape(&scene).await?, before);
    }
    // None of them was refused anything, and all that was acknowledged to them is there.
    let placed = customers.go().await?;
    let kept: Vec<Uuid> = sqlx::query_scalar("select order_id from orders").fetch_all(&scene.pool).await?;
    assert_eq!(placed.iter().filter(|order_id| !kept.contains(order_id)).count(), 0);
    assert_eq!(kept.len(), placed.len());
    let report = run(&scene, COMPARE).await?;
    assert_eq!((report.differences, report.orders), (vec![], placed.len() as u64));

    // What no event says is kept: a repeated request finds its order.
    let request = body_of(&Uuid::now_v7().to_string());
    let order = create(&scene.api, request.clone()).await?;
    run(&scene, SWAP).await?;
    assert_eq!(create(&scene.api, request).await?, order);
    scene.apply(id(&order)?, Command::StockReserved).await?;
    Ok(())
}

#[tokio::test]
async fn writers_wait_for_a_swap_but_not_for_one_that_waits() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    // Somebody reads for a while, so that the tables cannot be swapped.
    let mut reader = scene.pool.begin().await?;
    sqlx::query("select from orders").execute(&mut *reader).await?;
    let database = scene.superuser.connect_options();
    let swapping = tokio::spawn(async move {
        let mut attempts = 0;
        let report = rebuild(database.as_ref(), &ROLES, SWAP, |step| {
            if let Progress::Swapping { attempt } = step {
                attempts = attempt;
            }
        });
        let report = report.await;
        (report, attempts)
    });
    scene.blocked().await?;
    let placed = scene.place().await?;
    scene.apply(order_id, Command::StockReserved).await?;
    reader.commit().await?;
    let (report, attempts) = swapping.await?;
    let report = report?;
    assert_eq!((report.swapped, report.differences), (true, vec![]));
    assert!(attempts >= 1);
    scene.apply(placed, Command::StockReserved).await?;
    assert_eq!(run(&scene, COMPARE).await?.differences, []);
    Ok(())
}

#[tokio::test]
async fn a_broken_history_is_named_and_the_view_stays() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    sqlx::query("update order_events set version = 2").execute(&scene.superuser).await?;
    let error = run(&scene, SWAP).await.expect_err("no fold").to_string();
    assert!(error.contains(&order_id.to_string()) && error.contains("damaged"), "{error}");
    assert_eq!(scene.count("select count(*) from orders").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_view_with_something_that_a_swap_would_lose_is_not_swapped() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for (come, go, words) in [
        ("create view open_orders as select * from orders", "drop view open_orders", "view open_orders"),
        (
            "alter table orders set (fillfactor = 90)",
            "alter table orders reset (fillfactor)",
            "fillfactor=90",
        ),
        (
            "alter table orders replica identity full",
            "alter table orders replica identity default",
            "replica identity",
        ),
        (
            "alter table orders enable row level security",
            "alter table orders disable row level security",
            "row level security",
        ),
    ] {
        sqlx::query(come).execute(&scene.superuser).await?;
        let error = run(&scene, SWAP).await.expect_err(come).to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(run(&scene, COMPARE).await?.differences, []);
        sqlx::query(go).execute(&scene.superuser).await?;
    }
    assert!(run(&scene, SWAP).await?.swapped);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_migration_makes_meanwhile_is_not_lost() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    let database = scene.superuser.connect_options();
    for (migration, words) in [
        ("alter table orders add column note text", "column note text"),
        ("create index orders_note_idx on orders (note)", "index CREATE INDEX orders_note_idx"),
        ("alter table orders add constraint noted check (note <> '')", "rule noted CHECK"),
        (
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values (4711, 'another', true, '', 0)",
            "migration 4711",
        ),
        ("create view open_orders as select * from orders", "view open_orders"),
    ] {
        let rebuilt = rebuild(database.as_ref(), &ROLES, SWAP, |step| {
            if step == (Progress::Swapping { attempt: 1 }) {
                let migrated = sqlx::query(migration).execute(&scene.superuser);
                tokio::task::block_in_place(|| Handle::current().block_on(migrated)).expect("it runs");
            }
        });
        let error = rebuilt.await.expect_err(migration).to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(leftovers(&scene).await?, Vec::<String>::new());
    }
    scene.apply(order_id, Command::StockReserved).await?;
    sqlx::query("drop view open_orders").execute(&scene.superuser).await?;
    let before = shape(&scene).await?;
    assert!(run(&scene, SWAP).await?.swapped);
    assert_eq!(shape(&scene).await?, before);
    Ok(())
}

#[tokio::test]
async fn writers_are_kept_waiting_once_when_catching_up_takes_too_long() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let [lost, sound] = [scene.place().await?, scene.place().await?];
    // An order without a row is rebuilt again each time, and under the lock its events are read too slowly.
    sqlx::query("delete from orders where order_id = $1").bind(lost).execute(&scene.superuser).await?;
    sqlx::raw_sql(
        "create function takes_long() returns boolean volatile language plpgsql as $$
         begin
             perform pg_sleep(60) from pg_locks
             where pid = pg_backend_pid() and relation = 'orders'::regclass and mode = 'ExclusiveLock';
             return true;
         end $$;
         alter table order_events rename to real_events;
         create view order_events as select * from real_events where takes_long()",
    )
    .execute(&scene.superuser)
    .await?;
    let database = scene.superuser.connect_options();
    let (mut attempts, started) = (0, Instant::now());
    let rebuilt = rebuild(database.as_ref(), &ROLES, SWAP, |step| {
        attempts += u32::from(matches!(step, Progress::Swapping { .. }));
    });
    let error = rebuilt.await.expect_err("too slow").to_string();
    assert!(error.contains("too many orders") && error.contains("swap when less is going on"), "{error}");
    assert_eq!(attempts, 1);
    assert!(started.elapsed() < Duration::from_secs(40));
    assert_eq!(leftovers(&scene).await?, Vec::<String>::new(), "also not the tokens in it");
    let kept: Vec<Uuid> = sqlx::query_scalar("select order_id from orders").fetch_all(&scene.pool).await?;
    assert_eq!(kept, [sound]);
    Ok(())
}

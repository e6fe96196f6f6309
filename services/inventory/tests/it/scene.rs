//! The service on a database of its own, called through the generated client, and given records as the consumer does it.

use std::sync::Arc;

use consumer::{HandleError, Handler as _, KafkaArgs, Message};
use inventory::{Inventory, app::Catalogue, config::Config, handlers::StockRequests, metrics::Metrics};
use outbox::{Headers, UnitOfWork};
use prost::Message as _;
use proto::{
    inventory::v1::{
        self as pb, CommitStock, CreateProductRequest, GetStockRequest, ReleaseStock, ReserveStock,
        ShipmentScheduled, StockItem, StockRejected, inventory_service_client::InventoryServiceClient,
    },
    money::v1::Money,
};
use service::App as _;
use sqlx::PgPool;
use testkit::Database;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, service::Routes};
use tonic_types::StatusExt as _;
use uuid::Uuid;

/// How often a transaction is run that PostgreSQL ends as a deadlock; the consumer has no bound.
const RERUNS: usize = 50;

/// The generated client on the service's own routes.
pub type Client = InventoryServiceClient<Routes>;

/// One test's world.
pub struct Scene {
    /// The server side of gRPC.
    pub api: Client,
    /// As the service's role.
    pub pool: PgPool,
    /// For what the service itself may not do.
    pub superuser: PgPool,
    /// The use cases.
    pub catalogue: Catalogue,
    /// Where it all is.
    pub database: Database,
}

/// A command of the saga.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Hold these.
    Reserve(Vec<StockItem>),
    /// Hold these, asked for too late.
    ReserveLate(Vec<StockItem>),
    /// Ship.
    Commit,
    /// Give back.
    Release,
}

impl Scene {
    /// An empty catalogue.
    pub async fn set() -> anyhow::Result<Self> {
        let database = Database::create::<Inventory>().await?;
        let pool = database.app().await?;
        let nowhere = ([127, 0, 0, 1], 0).into();
        let config = Config {
            kafka: KafkaArgs { kafka: "127.0.0.1:1".to_owned(), prefix: String::new() },
            listen: nowhere,
            admin: nowhere,
            announce_every: std::time::Duration::from_secs(86_400),
        };
        let service =
            Inventory::build(&config, pool.clone(), &telemetry::Metrics::new(), CancellationToken::new())?;
        Ok(Self {
            api: InventoryServiceClient::new(Arc::new(service).routes()),
            superuser: database.superuser().await?,
            catalogue: Catalogue::new(pool.clone()),
            pool,
            database,
        })
    }

    /// Adds a product of EUR 9.00 with so many units.
    pub async fn add(&self, product_id: &str, units: i64) -> Result<pb::Product, Status> {
        let request = CreateProductRequest { product: Some(product(product_id)), initial_stock: units };
        Ok(self.api.clone().create_product(request).await?.into_inner().product.expect("a product"))
    }

    /// Available and reserved units.
    pub async fn stock(&self, product_id: &str) -> Result<(i64, i64), Status> {
        let request = GetStockRequest { product_id: product_id.to_owned() };
        let stock = self.api.clone().get_stock(request).await?.into_inner().stock.expect("a stock");
        assert_eq!(stock.on_hand, stock.available + stock.reserved);
        Ok((stock.available, stock.reserved))
    }

    /// One command in a transaction of its own. Answers with what the saga is told.
    pub async fn ask(&self, order_id: Uuid, ask: Ask) -> anyhow::Result<String> {
        self.ask_in(0, order_id, ask).await
    }

    /// The same, read from this partition.
    pub async fn ask_in(&self, partition: i32, order_id: Uuid, ask: Ask) -> anyhow::Result<String> {
        let mut told = self.batch(&[record(partition, order_id, ask)]).await?;
        Ok(told.remove(0))
    }

    /// As the consumer does: the records of a batch in one transaction, which runs again when PostgreSQL has ended it for
    /// another's sake.
    pub async fn batch(&self, messages: &[Message]) -> anyhow::Result<Vec<String>> {
        batch(&self.pool, messages).await
    }

    /// The same as [`Scene::batch`], one record after the other.
    pub async fn one_by_one(&self, messages: &[Message]) -> anyhow::Result<Vec<String>> {
        run(&self.pool, messages, Way::Apart).await
    }

    /// The first number that a statement gives, as the superuser.
    pub async fn count(&self, sql: &'static str) -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar(sql).fetch_one(&self.superuser).await?)
    }

    /// Version and name of each record about a key, in the order of the outbox; checked against the contract of the wire.
    pub async fn told(&self, topic: &str, key: &str) -> anyhow::Result<Vec<(i64, String, Vec<u8>)>> {
        type Row = (Uuid, Vec<u8>, Option<i32>, i64, Vec<u8>, Vec<u8>);
        let rows: Vec<Row> = sqlx::query_as(
            "select event_id, key, partition, sequence, headers, payload
             from outbox.event where topic = $1 and aggregate_id = $2 order by id",
        )
        .bind(topic)
        .bind(key)
        .fetch_all(&self.superuser)
        .await?;
        let mut told = Vec::with_capacity(rows.len());
        for (event_id, record_key, partition, sequence, headers, payload) in rows {
            let headers = Headers::decode(&headers)?;
            let header = |name| headers.text(name).unwrap_or_default().to_owned();
            assert_eq!((record_key.as_slice(), partition), (key.as_bytes(), None));
            assert_eq!((header("ce_id"), event_id.get_version_num()), (event_id.to_string(), 7));
            assert_eq!(
                (header("ce_source").as_str(), header("ce_subject").as_str()),
                ("/orderly/inventory", key)
            );
            assert_eq!(header("ce_sequence"), sequence.to_string());
            let name = header("ce_type").rsplit('.').next().unwrap_or_default().to_owned();
            told.push((sequence, name, payload));
        }
        Ok(told)
    }

    /// What holds after whatever has happened: no unit is lost or sold twice, and each version was told of once.
    pub async fn check_invariants(&self) -> anyhow::Result<()> {
        let mut audit = self.superuser.begin().await?;
        // To compile these statements takes PostgreSQL far longer than to run them.
        sqlx::raw_sql("set local jit = off").execute(&mut *audit).await?;
        let leaks: Vec<String> = sqlx::query_scalar(
            "with held as (
                 select item ->> 'product_id' as product_id, state, sum((item ->> 'quantity')::bigint) as units
                 from reservations, jsonb_array_elements(items) as item
                 group by 1, 2
             ), sums as (
                 select product_id,
                        (select coalesce(sum(delta), 0) from adjustments a where a.product_id = p.product_id) as counted,
                        (select sum(available) from stock s where s.product_id = p.product_id) as available,
                        (select sum(reserved) from stock s where s.product_id = p.product_id) as reserved,
                        (select coalesce(sum(units), 0) from held h
                         where h.product_id = p.product_id and state = 'COMMITTED') as shipped,
                        (select coalesce(sum(units), 0) from held h
                         where h.product_id = p.product_id and state = 'RESERVED') as promised
                 from products p
             )
             select to_jsonb(sums)::text from sums
             where counted <> available + reserved + shipped or reserved <> promised",
        )
        .fetch_all(&mut *audit)
        .await?;
        assert!(leaks.is_empty(), "stock leaks: {leaks:?}");
        let untold: Vec<String> = sqlx::query_scalar(
            "with aggregates as (
                 select 'stock-results' as topic, order_id::text as id, version from reservations
                 union all
                 select 'product-events', product_id, version from products
             ), told as (
                 select topic, aggregate_id as id, array_agg(sequence::integer order by outbox.event.id) as versions
                 from outbox.event group by 1, 2
             )
             select concat_ws(' ', topic, id, version, versions::text)
             from aggregates full join told using (topic, id)
             where versions is distinct from (select array_agg(n) from generate_series(1, version) as n)",
        )
        .fetch_all(&mut *audit)
        .await?;
        assert!(untold.is_empty(), "versions and records differ: {untold:?}");
        Ok(())
    }
}

/// How the records of a batch are handled.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// By `handle_all`.
    Together,
    /// Each by `handle`.
    Apart,
}

/// As [`Scene::batch`].
pub async fn batch(pool: &PgPool, messages: &[Message]) -> anyhow::Result<Vec<String>> {
    run(pool, messages, Way::Together).await
}

/// The records of a batch in one transaction, which runs again after a deadlock.
pub async fn run(pool: &PgPool, messages: &[Message], way: Way) -> anyhow::Result<Vec<String>> {
    for _ in 0..RERUNS {
        match run_once(pool, messages, way).await {
            Err(error) if is_deadlock(&error) => {}
            outcome => return outcome,
        }
    }
    anyhow::bail!("{RERUNS} deadlocks in a row")
}

async fn run_once(pool: &PgPool, messages: &[Message], way: Way) -> anyhow::Result<Vec<String>> {
    run_with(&handler(), pool, messages, way).await
}

/// What handles records, and counts for nobody.
pub fn handler() -> StockRequests {
    StockRequests::new(Metrics::register(&telemetry::Metrics::new()))
}

/// As [`run`], by this handler, and once.
pub async fn run_with(
    handler: &StockRequests,
    pool: &PgPool,
    messages: &[Message],
    way: Way,
) -> anyhow::Result<Vec<String>> {
    let mut work = UnitOfWork::begin(pool).await?;
    let mut events = Vec::new();
    match way {
        Way::Together => {
            let messages: Vec<&Message> = messages.iter().collect();
            events.extend(handler.handle_all(&mut work, &messages).await?);
        }
        Way::Apart => {
            for message in messages {
                events.extend(handler.handle(&mut work, message).await?);
            }
        }
    }
    anyhow::ensure!(events.len() == messages.len(), "a command has one answer");
    let told = events.iter().map(answer).collect();
    work.commit(events).await?;
    handler.committed(&messages.iter().collect::<Vec<_>>());
    Ok(told)
}

fn is_deadlock(error: &anyhow::Error) -> bool {
    let sql = match error.downcast_ref::<HandleError>() {
        Some(HandleError::Sql(error)) => error,
        _ => return false,
    };
    sql.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "40P01")
}

/// A record of `stock-requests`.
pub fn record(partition: i32, order_id: Uuid, ask: Ask) -> Message {
    let id = order_id.to_string();
    // 1970 and never.
    let (late, open) = (Some(prost_types::Timestamp { seconds: 1, nanos: 0 }), None);
    let reserve = |items, not_after| ReserveStock { order_id: id.clone(), items, not_after };
    match ask {
        Ask::Reserve(items) => message(partition, &reserve(items, open)),
        Ask::ReserveLate(items) => message(partition, &reserve(items, late)),
        Ask::Commit => message(partition, &CommitStock { order_id: id }),
        Ask::Release => message(partition, &ReleaseStock { order_id: id }),
    }
}

/// A record with this event.
pub fn message<M: prost::Message + prost::Name>(partition: i32, event: &M) -> Message {
    Message {
        topic: "stock-requests".to_owned(),
        partition,
        offset: 0,
        key: None,
        headers: Headers::default(),
        payload: Some(event.encode_to_vec()),
        timestamp: None,
        source: "/orderly/order".to_owned(),
        id: Uuid::now_v7(),
        event_type: M::full_name(),
        span: None,
    }
}

/// Version and contents of an answer, without its order id.
fn answer(event: &outbox::Event) -> String {
    assert_eq!(event.topic, "stock-results");
    let payload = event.payload.as_deref().unwrap_or_default();
    let name = event.headers.text("ce_type").and_then(|name| name.rsplit('.').next()).unwrap_or_default();
    let version = event.sequence.unwrap_or_default();
    match name {
        "StockRejected" => {
            let rejected = StockRejected::decode(payload).expect("decodes");
            let why = rejected.rejection().as_str_name().trim_start_matches("STOCK_REJECTION_").to_owned();
            format!("{version} StockRejected {why} {}", rejected.product_id).trim_end().to_owned()
        }
        "ShipmentScheduled" => {
            let scheduled = ShipmentScheduled::decode(payload).expect("decodes");
            let shipment_id: Uuid = scheduled.shipment_id.parse().expect("a UUID");
            assert_eq!(shipment_id.get_version_num(), 7);
            assert!(scheduled.carrier.starts_with("Simulated ") && scheduled.ship_time.is_some());
            format!("{version} ShipmentScheduled")
        }
        name => format!("{version} {name}"),
    }
}

/// A product of EUR 9.00.
pub fn product(product_id: &str) -> pb::Product {
    pb::Product {
        product_id: product_id.to_owned(),
        name: format!("The {product_id}"),
        price: Some(euros(900)),
        ..Default::default()
    }
}

/// An amount.
pub fn euros(minor: i64) -> Money {
    Money { currency: "EUR".to_owned(), minor }
}

/// Units of a product.
pub fn item(product_id: &str, quantity: i32) -> StockItem {
    StockItem { product_id: product_id.to_owned(), quantity }
}

/// Code and `ErrorInfo.reason` of a refusal.
pub fn refusal(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    let info = details.error_info().expect("a refusal has its ErrorInfo");
    assert_eq!(info.domain, "orderly");
    (status.code(), info.reason.clone())
}

/// The fields that the caller is told are wrong.
pub fn fields(status: &Status) -> Vec<String> {
    assert_eq!(refusal(status), (Code::InvalidArgument, "INVALID_FIELD".to_owned()), "{status}");
    let violations = status.get_error_details().bad_request().map(|request| request.field_violations.clone());
    violations.unwrap_or_default().into_iter().map(|violation| violation.field).collect()
}

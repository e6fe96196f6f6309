//! The service on a database of its own, called through the generated client without a network between them.

use std::{fmt::Debug, sync::Arc, time::Duration};

use consumer::KafkaArgs;
use order::{
    Config, DeadlineArgs, OrderService,
    app::{self, Deadlines, Orders},
    domain::{self, Command, Event, Order, Shipment},
};
use outbox::{Headers, UnitOfWork};
use proto::{
    money::v1::Money,
    order::v1::{
        self as pb, CancelOrderRequest, CreateOrderRequest, GetOrderRequest, OrderItem,
        order_service_client::OrderServiceClient,
    },
};
use serde_json::{Value, json};
use service::App as _;
use sqlx::PgPool;
use telemetry::Metrics;
use testkit::{Database, servers, until};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, service::Routes};
use tonic_types::StatusExt as _;
use uuid::Uuid;

/// Whose orders these are.
pub const CUSTOMER: &str = "cust-1";
/// How long each answer is waited for; no two of them as long.
pub const DEADLINES: DeadlineArgs = DeadlineArgs {
    stock_deadline: Duration::from_secs(900),
    payment_deadline: Duration::from_secs(960),
    shipment_deadline: Duration::from_secs(1_020),
    compensation_deadline: Duration::from_secs(1_080),
};
/// Who carries shipments.
pub const CARRIER: &str = "Simulated Parcel Line";

/// How many streams the service holds.
pub const MAX_WATCHERS: usize = 5_000;

/// The generated client on the service's own routes.
pub type Client = OrderServiceClient<Routes>;

/// One test's world.
pub struct Scene {
    /// The server side of gRPC.
    pub api: Client,
    /// As the service's role.
    pub pool: PgPool,
    /// For what the service itself may not do.
    pub superuser: PgPool,
    /// The service, for its consumer.
    pub service: Arc<OrderService>,
    /// Where this test's topics are.
    pub kafka: KafkaArgs,
    /// What the service shows.
    pub metrics: Metrics,
    /// Ends streams and consumer.
    pub shutdown: CancellationToken,
    /// Where it all is.
    pub database: Database,
}

/// A record in the outbox.
pub struct Told {
    /// `topic sequence MessageName`.
    pub summary: String,
    /// Protobuf.
    pub payload: Vec<u8>,
}

impl Scene {
    /// A service that has seen no order yet.
    pub async fn set() -> anyhow::Result<Self> {
        let database = Database::create::<OrderService>().await?;
        let pool = database.app().await?;
        let prefix = format!("order-it-{}-", Uuid::now_v7().simple());
        let kafka = KafkaArgs { kafka: servers().await?.kafka.clone(), prefix };
        let nowhere = ([127, 0, 0, 1], 0).into();
        let config = Config {
            listen: nowhere,
            admin: nowhere,
            kafka: kafka.clone(),
            deadlines: DEADLINES,
            max_watchers: MAX_WATCHERS,
        };
        let shutdown = CancellationToken::new();
        let metrics = Metrics::new();
        let service = Arc::new(OrderService::build(&config, pool.clone(), &metrics, shutdown.clone())?);
        let scene = Self {
            api: OrderServiceClient::new(Arc::clone(&service).routes()),
            superuser: database.superuser().await?,
            pool,
            service,
            kafka,
            metrics,
            shutdown,
            database,
        };
        scene.sell("gaming-mouse", "EUR", 4_999).await?;
        scene.sell("mouse-pad", "EUR", 1_250).await?;
        Ok(scene)
    }

    /// Makes a product known at a price, or changes it.
    pub async fn sell(&self, product_id: &str, currency: &str, minor: i64) -> anyhow::Result<()> {
        sqlx::query(
            "insert into products (product_id, name, version, currency, price_minor, archived)
             values ($1, $1, 1, $2, $3, false)
             on conflict (product_id) do update
             set version = products.version + 1, currency = excluded.currency, price_minor = excluded.price_minor",
        )
        .bind(product_id)
        .bind(currency)
        .bind(minor)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Takes a product out of the catalogue.
    pub async fn archive(&self, product_id: &str) -> anyhow::Result<()> {
        let sql = "update products set version = version + 1, archived = true where product_id = $1";
        sqlx::query(sql).bind(product_id).execute(&self.pool).await?;
        Ok(())
    }

    /// The use cases, as a replica of the service has them.
    pub fn orders(&self) -> Orders {
        self.orders_shown_in(&Metrics::new())
    }

    /// The same, counted here.
    pub fn orders_shown_in(&self, metrics: &Metrics) -> Orders {
        let metrics = order::metrics::Metrics::register(metrics);
        Orders::new(self.pool.clone(), Deadlines::from(DEADLINES), metrics)
    }

    /// Places an order of this customer.
    pub async fn place(&self) -> anyhow::Result<Uuid> {
        Ok(id(&create(&self.api, body()).await?)?)
    }

    /// An order whose stock is held and whose payment was asked for.
    pub async fn place_stocked(&self) -> anyhow::Result<Uuid> {
        let order_id = self.place().await?;
        self.apply(order_id, Command::StockReserved).await?;
        Ok(order_id)
    }

    /// An order that is stocked and paid, and whose shipment was asked for.
    pub async fn place_confirmed(&self) -> anyhow::Result<Uuid> {
        let order_id = self.place_stocked().await?;
        self.apply(order_id, Command::PaymentSucceeded).await?;
        Ok(order_id)
    }

    /// An order, and its history as it is told.
    pub async fn get(&self, order_id: Uuid) -> anyhow::Result<(pb::Order, Vec<pb::OrderTransition>)> {
        let get = GetOrderRequest { order_id: order_id.to_string() };
        let got = self.api.clone().get_order(get).await?.into_inner();
        Ok((got.order.expect("an answer has an order"), got.history))
    }

    /// Cancels an order.
    pub async fn cancel(&self, order_id: Uuid) -> Result<pb::Order, Status> {
        cancel(&self.api, order_id).await
    }

    /// A command in a transaction of its own, as a batch of the consumer does it.
    pub async fn apply(&self, order_id: Uuid, command: Command) -> anyhow::Result<()> {
        apply(&self.pool, order_id, command).await
    }

    /// The names of an order's events, which must replay to its row in `orders`.
    pub async fn history(&self, order_id: Uuid) -> anyhow::Result<Vec<String>> {
        let events: Vec<(i32, String, i16, Value)> = sqlx::query_as(
            "select version, event, schema, data from order_events where order_id = $1 order by version",
        )
        .bind(order_id)
        .fetch_all(&self.pool)
        .await?;
        let mut replayed: Option<Order> = None;
        for (position, (version, event, schema, data)) in (1..).zip(&events) {
            assert_eq!(*version, position, "the history of {order_id} has a gap");
            let event = Event::read(event, *schema, data.clone())?;
            replayed = Some(domain::evolve(order_id, replayed, &event));
        }
        let row: Option<Value> = sqlx::query_scalar(
            "select to_jsonb(orders) - array['request_id', 'request_hash', 'created_at', 'updated_at', 'deadline',
                                             'payment_token']
                 || jsonb_build_object('waits', deadline is not null, 'has_token', payment_token is not null)
             from orders where order_id = $1",
        )
        .bind(order_id)
        .fetch_optional(&self.pool)
        .await?;
        assert_eq!(row, replayed.map(|order| as_row(&order)), "the row is not what the history replays to");
        Ok(events.into_iter().map(|(_, event, ..)| event).collect())
    }

    /// An order's records in the outbox, in their order, each checked against the contract of the wire.
    pub async fn told(&self, order_id: Uuid) -> anyhow::Result<Vec<Told>> {
        type Row = (Uuid, String, Vec<u8>, Option<i32>, i64, Vec<u8>, Vec<u8>);
        let rows: Vec<Row> = sqlx::query_as(
            "select event_id, topic, key, partition, sequence, headers, payload
             from outbox.event where aggregate_id = $1 order by id",
        )
        .bind(order_id.to_string())
        .fetch_all(&self.superuser)
        .await?;
        let mut told = Vec::with_capacity(rows.len());
        for (event_id, topic, key, partition, sequence, headers, payload) in rows {
            let headers = Headers::decode(&headers)?;
            let header = |name| headers.text(name).unwrap_or_default().to_owned();
            assert_eq!((key, partition), (order_id.to_string().into_bytes(), None));
            assert_eq!((header("ce_id"), event_id.get_version_num()), (event_id.to_string(), 7));
            assert_eq!(header("ce_source"), "/orderly/order");
            assert_eq!(header("ce_subject"), order_id.to_string());
            assert_eq!(header("ce_sequence"), sequence.to_string());
            let event_type = header("ce_type");
            let name = event_type.rsplit('.').next().unwrap_or_default();
            told.push(Told { summary: format!("{topic} {sequence} {name}"), payload });
        }
        Ok(told)
    }

    /// The summaries of [`Scene::told`].
    pub async fn said(&self, order_id: Uuid) -> anyhow::Result<Vec<String>> {
        Ok(self.told(order_id).await?.into_iter().map(|told| told.summary).collect())
    }

    /// Waits until one statement waits for the lock of another transaction.
    pub async fn blocked(&self) -> anyhow::Result<()> {
        let waiting = "select count(*) from pg_stat_activity
                       where datname = current_database() and wait_event_type = 'Lock'";
        until("a statement waits for a lock", Duration::from_secs(10), || async {
            Ok((self.count(waiting).await? == 1).then_some(()))
        })
        .await
    }

    /// The first number that a statement gives, as the superuser.
    pub async fn count(&self, sql: &'static str) -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar(sql).fetch_one(&self.superuser).await?)
    }
}

/// A good request without a request id.
pub fn body() -> CreateOrderRequest {
    CreateOrderRequest {
        customer_id: CUSTOMER.to_owned(),
        items: vec![item("gaming-mouse", 2, 4_999), item("mouse-pad", 1, 1_250)],
        payment_token: "tok_ok".to_owned(),
        request_id: String::new(),
    }
}

/// A line of an order, in euros.
pub fn item(product_id: &str, quantity: i32, minor: i64) -> OrderItem {
    let unit_price = Some(Money { currency: "EUR".to_owned(), minor });
    OrderItem { product_id: product_id.to_owned(), quantity, unit_price }
}

/// Places an order.
pub async fn create(api: &Client, request: CreateOrderRequest) -> Result<pb::Order, Status> {
    let answer = api.clone().create_order(request).await?.into_inner();
    Ok(answer.order.expect("an answer has an order"))
}

/// Cancels an order.
pub async fn cancel(api: &Client, order_id: Uuid) -> Result<pb::Order, Status> {
    let request = CancelOrderRequest { order_id: order_id.to_string() };
    Ok(api.clone().cancel_order(request).await?.into_inner().order.expect("an answer has an order"))
}

/// As [`Scene::apply`].
pub async fn apply(pool: &PgPool, order_id: Uuid, command: Command) -> anyhow::Result<()> {
    let mut work = UnitOfWork::begin(pool).await?;
    let (_, events) = app::apply(&mut work, order_id, command, DEADLINES.into()).await?;
    Ok(work.commit(events).await?)
}

/// The id of an answered order.
pub fn id(order: &pb::Order) -> Result<Uuid, uuid::Error> {
    order.order_id.parse()
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

/// A shipment that the carrier fetches in so many hours.
pub fn shipment(hours: i64) -> Shipment {
    let ship_time = OffsetDateTime::now_utc().replace_nanosecond(0).expect("a second begins with 0");
    Shipment {
        shipment_id: Uuid::now_v7(),
        carrier: CARRIER.to_owned(),
        ship_time: ship_time + time::Duration::hours(hours),
    }
}

/// A cancellation at this moment.
pub fn cancel_now() -> Command {
    Command::Cancel { at: OffsetDateTime::now_utc() }
}

/// What `orders` must hold, all but times and request.
fn as_row(order: &Order) -> Value {
    json!({
        "order_id": order.id,
        "customer_id": order.customer_id,
        "status": name(order.status),
        "status_reason": order.reason,
        "attention": order.attention,
        "version": order.version,
        "items": order.items,
        "currency": order.total.currency,
        "total_minor": order.total.minor,
        "payment_id": order.payment_id,
        "stock": name(order.stock),
        "payment": name(order.payment),
        "shipment": order.shipment,
        "outcome": order.outcome,
        "attempts": order.repeats,
        "waits": order.waits_for().is_some(),
        "has_token": order.status == domain::Status::Pending,
    })
}

/// A state's name in the database.
fn name(state: impl Debug) -> String {
    let mut name = String::new();
    for letter in format!("{state:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

//! The order service: takes orders, asks for their stock and their payment, and decides each by the answers.
//!
//! An order is event-sourced: `order_events` is the truth, `orders` the view, and both are written together with the
//! events for the other services in one transaction.

pub mod api;
pub mod app;
mod config;
mod deadlines;
pub mod domain;
mod error;
mod handlers;
mod messages;
pub mod metrics;
mod open;
pub mod rebuild;
mod store;
mod watch;

use std::sync::Arc;

use anyhow::Context as _;
use consumer::Consumer;
use outbox::{Roles, quote_identifier};
use proto::order::v1::order_service_server::OrderServiceServer;
use service::App;
use sqlx::{AssertSqlSafe, PgPool, migrate::Migrator};
use telemetry::{Heartbeat, Metrics};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use config::{Config, DeadlineArgs};
pub use error::Error;

use crate::{
    api::Api,
    app::{Deadlines, Orders},
    handlers::Results,
    watch::Watchers,
};

/// Requests are small: 1,000 items take about 100 kB.
const MAX_REQUEST_BYTES: usize = 1024 * 1024;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The service, put together.
pub struct OrderService {
    config: Config,
    pool: PgPool,
    orders: Orders,
    watchers: Watchers,
    metrics: metrics::Metrics,
    consumer_metrics: consumer::Metrics,
}

impl App for OrderService {
    const NAME: &'static str = "order";
    const GRPC_SERVICE: &'static str = "orderly.order.v1.OrderService";
    const OBJECTIVES: &'static [&'static str] = &["CreateOrder"];
    type Config = Config;

    async fn migrate(pool: &PgPool, roles: &Roles<'_>) -> anyhow::Result<()> {
        outbox::migrate(pool, roles).await?;
        consumer::migrate(pool, roles).await?;
        MIGRATIONS.run(pool).await?;
        let (app, audit) = (quote_identifier(roles.app), quote_identifier(roles.audit));
        let grants = format!(
            "grant select on _sqlx_migrations to {app}, {audit};
             grant select, insert on order_events to {app};
             grant select, insert, update on products to {app};
             grant select on order_events, products to {audit};
             revoke select on orders from {audit};
             {}",
            grants_on_orders(&app, &audit)
        );
        sqlx::raw_sql(AssertSqlSafe(grants)).execute(pool).await.context("grant")?;
        Ok(())
    }

    async fn pending(pool: &PgPool) -> anyhow::Result<Vec<String>> {
        let mut pending = outbox::pending(pool).await?;
        pending.extend(consumer::pending(pool).await?);
        pending.extend(outbox::pending_in(pool, &MIGRATIONS).await?);
        Ok(pending)
    }

    fn build(
        config: &Config,
        pool: PgPool,
        metrics: &Metrics,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let consumer_metrics = consumer::Metrics::register(metrics, &handlers::SUBSCRIPTION);
        let metrics = metrics::Metrics::register(metrics);
        let orders = Orders::new(pool.clone(), config.deadlines.into(), metrics.clone());
        let watchers = Watchers::new(pool.clone(), config.max_watchers, metrics.watchers.clone(), shutdown);
        Ok(Self { config: config.clone(), pool, orders, watchers, metrics, consumer_metrics })
    }

    fn routes(self: Arc<Self>) -> Routes {
        self.watchers.start(self.config.kafka.clone());
        let api = Api::new(self.orders.clone(), self.watchers.clone());
        Routes::new(OrderServiceServer::new(api).max_decoding_message_size(MAX_REQUEST_BYTES))
    }

    async fn work(
        self: Arc<Self>,
        heartbeat: Arc<Heartbeat>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let consumer = Consumer {
            subscription: handlers::SUBSCRIPTION,
            kafka: self.config.kafka.clone(),
            pool: self.pool.clone(),
            handler: Results::new(Deadlines::from(self.config.deadlines), self.metrics.clone()),
            after_commit: Arc::new(Notify::new()),
            heartbeat,
            metrics: self.consumer_metrics.clone(),
            version: env!("CARGO_PKG_VERSION"),
        };
        let ended = shutdown.child_token();
        let deadlines =
            deadlines::keep(&self.orders, &self.pool, &self.config.kafka, &self.metrics, ended.clone());
        let open = open::show(&self.pool, &self.metrics, ended.clone());
        let consumer = async {
            let outcome = consumer.run(shutdown).await;
            ended.cancel();
            outcome
        };
        let ((), (), consumed) = tokio::join!(deadlines, open, consumer);
        Ok(consumed?)
    }
}

/// The rights on the view, also on a rebuilt one. Only the service itself reads payment tokens.
fn grants_on_orders(app: &str, audit: &str) -> String {
    format!(
        "grant select, insert, update on orders to {app};
         grant select (order_id, customer_id, status, status_reason, attention, version, items, currency, total_minor,
             payment_id, stock, payment, outcome, attempts, deadline, shipment, request_id, request_hash, created_at,
             updated_at) on orders to {audit};"
    )
}

//! Inventory: the catalogue and its stock. Orders reserve, ship and release by events; nothing is ever sold twice.

use std::sync::Arc;

use anyhow::Context as _;
use consumer::Consumer;
use outbox::Roles;
use proto::inventory::v1::inventory_service_server::InventoryServiceServer;
use sqlx::PgPool;
use telemetry::{Heartbeat, Metrics};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub mod announce;
pub mod api;
pub mod app;
pub mod config;
pub mod domain;
pub mod error;
pub mod handlers;
pub mod metrics;
pub mod schema;
pub mod store;
pub mod take;

use crate::{api::Api, app::Catalogue, config::Config, handlers::StockRequests};

/// The inventory service, put together.
#[derive(Debug)]
pub struct Inventory {
    config: Config,
    catalogue: Catalogue,
    metrics: metrics::Metrics,
    consumer_metrics: consumer::Metrics,
}

impl service::App for Inventory {
    const NAME: &'static str = "inventory";
    const GRPC_SERVICE: &'static str = "orderly.inventory.v1.InventoryService";
    type Config = Config;

    async fn migrate(pool: &PgPool, roles: &Roles<'_>) -> anyhow::Result<()> {
        Ok(schema::migrate(pool, roles).await?)
    }

    async fn pending(pool: &PgPool) -> anyhow::Result<Vec<String>> {
        Ok(schema::pending(pool).await?)
    }

    fn build(config: &Config, pool: PgPool, metrics: &Metrics, _: CancellationToken) -> anyhow::Result<Self> {
        Ok(Self {
            config: config.clone(),
            catalogue: Catalogue::new(pool),
            metrics: metrics::Metrics::register(metrics),
            consumer_metrics: consumer::Metrics::register(metrics, &handlers::SUBSCRIPTION),
        })
    }

    fn routes(self: Arc<Self>) -> Routes {
        Routes::new(InventoryServiceServer::new(Api(self.catalogue.clone())))
    }

    async fn work(
        self: Arc<Self>,
        heartbeat: Arc<Heartbeat>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let consumer = Consumer {
            subscription: handlers::SUBSCRIPTION,
            kafka: self.config.kafka.clone(),
            pool: self.catalogue.pool.clone(),
            handler: StockRequests::new(self.metrics.clone()),
            after_commit: Arc::new(Notify::new()),
            heartbeat,
            metrics: self.consumer_metrics.clone(),
            version: env!("CARGO_PKG_VERSION"),
        };
        // When the consumer fails, the announcer ends too.
        let stop = shutdown.child_token();
        let announcer = announce::run(&self.catalogue, self.config.announce_every, stop.clone());
        let watch = self.metrics.watch(&self.catalogue.pool, stop.clone());
        let consumer = async {
            let outcome = consumer.run(stop.clone()).await;
            stop.cancel();
            outcome
        };
        let ((), (), consumed) = tokio::join!(announcer, watch, consumer);
        consumed.context("consume stock-requests")
    }
}

//! Billing: takes the money of an order once, gives it back when asked, and books both.

use std::sync::Arc;

use anyhow::Context as _;
use consumer::Consumer;
use outbox::Roles;
use proto::billing::v1::billing_service_server::BillingServiceServer;
use sqlx::PgPool;
use telemetry::{Heartbeat, Metrics};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub mod api;
pub mod app;
pub mod config;
pub mod dispatch;
pub mod domain;
pub mod error;
pub mod handlers;
pub mod metrics;
pub mod provider;
pub mod schema;
pub mod store;

use crate::{api::Api, app::Payments, config::Config, handlers::PaymentRequests, provider::Provider};

/// The billing service, put together.
#[derive(Debug)]
pub struct Billing {
    config: Config,
    payments: Arc<Payments>,
    metrics: consumer::Metrics,
    dispatch_metrics: consumer::dispatch::Metrics,
}

impl service::App for Billing {
    const NAME: &'static str = "billing";
    const GRPC_SERVICE: &'static str = "orderly.billing.v1.BillingService";
    type Config = Config;

    async fn migrate(pool: &PgPool, roles: &Roles<'_>) -> anyhow::Result<()> {
        Ok(schema::migrate(pool, roles).await?)
    }

    async fn pending(pool: &PgPool) -> anyhow::Result<Vec<String>> {
        Ok(schema::pending(pool).await?)
    }

    fn build(config: &Config, pool: PgPool, metrics: &Metrics, _: CancellationToken) -> anyhow::Result<Self> {
        let provider =
            Provider::new(&config.provider_url, config.provider_timeout).context("provider client")?;
        Ok(Self {
            config: config.clone(),
            payments: Arc::new(Payments::new(pool, provider, metrics::Metrics::register(metrics))),
            metrics: consumer::Metrics::register(metrics, &handlers::SUBSCRIPTION),
            dispatch_metrics: consumer::dispatch::Metrics::register(metrics),
        })
    }

    fn routes(self: Arc<Self>) -> Routes {
        Routes::new(BillingServiceServer::new(Api(Arc::clone(&self.payments))))
    }

    async fn work(
        self: Arc<Self>,
        heartbeat: Arc<Heartbeat>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let consumer = Consumer {
            subscription: handlers::SUBSCRIPTION,
            kafka: self.config.kafka.clone(),
            pool: self.payments.pool.clone(),
            handler: PaymentRequests::new(&self.payments),
            after_commit: self.payments.wake(),
            heartbeat,
            metrics: self.metrics.clone(),
            version: env!("CARGO_PKG_VERSION"),
        };
        // When the consumer fails, the calls in flight are still brought to their end.
        let stop = shutdown.child_token();
        let dispatcher = consumer::dispatch::run(
            Arc::clone(&self.payments),
            usize::from(self.config.provider_concurrency),
            self.payments.wake(),
            &self.dispatch_metrics,
            stop.clone(),
        );
        let watch = self.payments.metrics().watch(&self.payments.pool, stop.clone());
        let consumer = async {
            let outcome = consumer.run(stop.clone()).await;
            stop.cancel();
            outcome
        };
        let ((), (), consumed) = tokio::join!(dispatcher, watch, consumer);
        consumed.context("consume payment-requests")
    }
}

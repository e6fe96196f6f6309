//! Notification: tells customers what happened to their orders, in the log or by e-mail.

use std::sync::Arc;

use anyhow::Context as _;
use consumer::Consumer;
use outbox::Roles;
use proto::notification::v1::notification_service_server::NotificationServiceServer;
use sqlx::PgPool;
use telemetry::{Heartbeat, Metrics};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub mod api;
pub mod app;
pub mod config;
pub mod dispatch;
pub mod domain;
pub mod error;
pub mod handlers;
pub mod mail;
pub mod schema;
pub mod store;

use crate::{api::Api, config::Config, dispatch::Deliveries, handlers::Handlers, mail::Mailer};

/// The notification service, put together.
pub struct Notification {
    config: Config,
    pool: PgPool,
    metrics: consumer::Metrics,
}

impl service::App for Notification {
    const NAME: &'static str = "notification";
    const GRPC_SERVICE: &'static str = "orderly.notification.v1.NotificationService";
    type Config = Config;

    async fn migrate(pool: &PgPool, roles: &Roles<'_>) -> anyhow::Result<()> {
        Ok(schema::migrate(pool, roles).await?)
    }

    async fn pending(pool: &PgPool) -> anyhow::Result<Vec<String>> {
        Ok(schema::pending(pool).await?)
    }

    fn build(config: &Config, pool: PgPool, metrics: &Metrics, _: CancellationToken) -> anyhow::Result<Self> {
        Ok(Self { config: config.clone(), pool, metrics: metrics.register(consumer::Metrics::register) })
    }

    fn routes(self: Arc<Self>) -> Routes {
        Routes::new(NotificationServiceServer::new(Api { pool: self.pool.clone() }))
    }

    async fn work(
        self: Arc<Self>,
        heartbeat: Arc<Heartbeat>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let requested = Arc::new(Notify::new());
        let consumer = Consumer {
            subscription: handlers::SUBSCRIPTION,
            kafka: self.config.kafka.clone(),
            pool: self.pool.clone(),
            handler: Handlers,
            after_commit: Arc::clone(&requested),
            heartbeat,
            metrics: self.metrics.clone(),
            version: env!("CARGO_PKG_VERSION"),
        };
        let mailer = Mailer::new(self.config.smtp.clone(), self.config.mail_from.clone());
        let deliveries = Arc::new(Deliveries { pool: self.pool.clone(), mailer });
        // When the consumer fails, deliveries in flight are still brought to their end.
        let stop = shutdown.child_token();
        let dispatcher = consumer::dispatch::run(deliveries, dispatch::CONCURRENCY, requested, stop.clone());
        let consumer = async {
            let outcome = consumer.run(stop.clone()).await;
            stop.cancel();
            outcome
        };
        let ((), consumed) = tokio::join!(dispatcher, consumer);
        consumed.context("consume notification-events")
    }
}

#[cfg(test)]
mod tests {
    /// The rules can be read, and tested, without a database, a network or a clock.
    #[test]
    fn the_domain_knows_no_infrastructure() {
        let files =
            [include_str!("domain.rs"), include_str!("domain/money.rs"), include_str!("domain/text.rs")];
        for file in files {
            for word in ["sqlx", "tonic", "rdkafka", "axum", "tokio", "proto::", "crate::store"] {
                assert!(!file.contains(word), "the domain mentions {word}");
            }
        }
    }
}

//! Notification: tells customers what happened to their orders, in the log, by e-mail or by webhook.

use std::sync::Arc;

use anyhow::Context as _;
use consumer::{Consumer, Undelivered, dispatch::run};
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
pub mod metrics;
pub mod schema;
pub mod store;
pub mod webhook;

use crate::{
    api::Api,
    config::Config,
    dispatch::{Deliveries, Lines, Medium as _},
    handlers::Handlers,
    mail::Mailer,
    webhook::Webhooks,
};

/// The notification service, put together.
pub struct Notification {
    config: Config,
    pool: PgPool,
    metrics: metrics::Metrics,
    consumer_metrics: consumer::Metrics,
    dispatch_metrics: consumer::dispatch::Metrics,
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
        Ok(Self {
            config: config.clone(),
            pool,
            metrics: metrics::Metrics::register(metrics),
            consumer_metrics: consumer::Metrics::register(metrics, &handlers::SUBSCRIPTION),
            dispatch_metrics: consumer::dispatch::Metrics::register(metrics),
        })
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
            metrics: self.consumer_metrics.clone(),
            version: env!("CARGO_PKG_VERSION"),
        };
        let emails = self.deliveries(Mailer::new(self.config.smtp.clone(), self.config.mail_from.clone()));
        let webhooks =
            Webhooks::new(self.config.webhook_allow_private).context("make the webhooks' client")?;
        let webhooks = self.deliveries(webhooks);
        let lines = Arc::new(Lines { pool: self.pool.clone(), metrics: self.metrics.clone() });
        // When the consumer fails, deliveries in flight are still brought to their end.
        let stop = shutdown.child_token();
        let wakes: [Arc<Notify>; 3] = Default::default();
        let [wake_emails, wake_webhooks, wake_lines] = wakes.each_ref().map(Arc::clone);
        let metrics = &self.dispatch_metrics;
        let dispatchers = async {
            tokio::join!(
                run(emails, Mailer::CONCURRENCY, wake_emails, metrics, stop.clone()),
                run(webhooks, Webhooks::CONCURRENCY, wake_webhooks, metrics, stop.clone()),
                run(lines, Lines::CONCURRENCY, wake_lines, metrics, stop.clone()),
                wake_all(&requested, &wakes, &stop),
            )
        };
        let watch = self.metrics.watch(&self.pool, stop.clone());
        let consumer = async {
            let outcome = consumer.run(stop.clone()).await;
            stop.cancel();
            outcome
        };
        let (_, (), consumed) = tokio::join!(dispatchers, watch, consumer);
        consumed.context("consume notification-events")
    }
}

impl Notification {
    fn deliveries<M>(&self, medium: M) -> Arc<Deliveries<M>> {
        let Config { kafka, give_up_after, .. } = &self.config;
        let version = env!("CARGO_PKG_VERSION");
        let dead_letters =
            Undelivered::new(&handlers::SUBSCRIPTION, kafka, self.consumer_metrics.clone(), version);
        let (pool, metrics) = (self.pool.clone(), self.metrics.clone());
        Arc::new(Deliveries { pool, medium, give_up_after: *give_up_after, dead_letters, metrics })
    }
}

/// Passes each wake-up on to every dispatcher.
async fn wake_all(requested: &Notify, wakes: &[Arc<Notify>], stop: &CancellationToken) {
    while stop.run_until_cancelled(requested.notified()).await.is_some() {
        wakes.iter().for_each(|wake| wake.notify_one());
    }
}

#[cfg(test)]
mod tests {
    /// The rules can be read, and tested, without a database, a network or a clock.
    #[test]
    fn the_domain_knows_no_infrastructure() {
        let files = [
            include_str!("domain.rs"),
            include_str!("domain/money.rs"),
            include_str!("domain/text.rs"),
            include_str!("domain/webhook.rs"),
        ];
        for file in files {
            for word in ["sqlx", "tonic", "rdkafka", "axum", "tokio", "proto::", "crate::store"] {
                assert!(!file.contains(word), "the domain mentions {word}");
            }
        }
    }
}

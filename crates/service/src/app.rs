//! What a service has to say for itself.

use std::{future::Future, sync::Arc};

use outbox::Roles;
use sqlx::PgPool;
use telemetry::{Heartbeat, Metrics};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::config::Addresses;

/// A service: gRPC on one side, Kafka on the other, one database.
pub trait App: Send + Sync + Sized + 'static {
    /// Short name, also of its consumer group and in its roles: `billing`.
    const NAME: &'static str;
    /// Full name of its gRPC service, whose health means "ready to serve".
    const GRPC_SERVICE: &'static str;
    /// Its methods with an objective, such as `CreateOrder`: what counts against one is shown from the start.
    const OBJECTIVES: &'static [&'static str] = &[];
    /// The service's own flags.
    type Config: clap::Args + Addresses + Clone + Send + Sync + 'static;

    /// Creates or upgrades every schema of the database, as its owner. Safe to repeat.
    fn migrate(pool: &PgPool, roles: &Roles<'_>) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// The migrations that this program knows and the database has not applied.
    fn pending(pool: &PgPool) -> impl Future<Output = anyhow::Result<Vec<String>>> + Send;

    /// Puts the service together without touching the database. `shutdown` ends streams that would never end.
    fn build(
        config: &Self::Config,
        pool: PgPool,
        metrics: &Metrics,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self>;

    /// Its gRPC service.
    fn routes(self: Arc<Self>) -> Routes;

    /// Consumes and dispatches until shutdown; an error ends the process.
    fn work(
        self: Arc<Self>,
        heartbeat: Arc<Heartbeat>,
        shutdown: CancellationToken,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

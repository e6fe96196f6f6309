//! The gRPC server: health, reflection, limits, and for each call a span and a duration.

mod call;
mod method;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use axum::{extract::Request, middleware::Next};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};

use self::method::Methods;
use crate::status::{Reason, status};

/// Calls of one connection that are worked on at a time. Further ones wait in the client, unseen and without an error,
/// and a stream that watches takes one for as long as it lives: so this is more than a process has of those.
const CONCURRENT_STREAMS: u32 = 16_384;

/// `grpc.health.v1` of one process: `""` is the process, the service's name is "ready to serve".
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
    service: &'static str,
}

impl Health {
    /// The process serves, its service does not yet.
    pub async fn new(service: &'static str) -> Self {
        let reporter = HealthReporter::new();
        reporter.set_service_status("", ServingStatus::Serving).await;
        reporter.set_service_status(service, ServingStatus::NotServing).await;
        Self { reporter, service }
    }

    /// Tells whether the service is ready to serve; those who watch learn it at once.
    pub async fn set(&self, ready: bool) {
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.reporter.set_service_status(self.service, status).await;
    }

    /// Ends every Watch stream: they would keep the server from draining.
    async fn close(mut self) {
        self.reporter.clear_service_status(self.service).await;
        self.reporter.clear_service_status("").await;
    }
}

/// Refuses every call of these routes until it is admitted.
pub fn gated(routes: Routes, admitted: Arc<AtomicBool>) -> Routes {
    let gate = move |request: Request, next: Next| {
        let admitted = admitted.load(Ordering::Acquire);
        async move {
            if admitted {
                return next.run(request).await;
            }
            let refused = status(Reason::DependencyUnavailable, "the service has not seen its database yet");
            refused.into_http()
        }
    };
    Routes::from(routes.into_axum_router().layer(axum::middleware::from_fn(gate)))
}

/// What callers can call.
pub struct Service {
    /// The service's own.
    pub routes: Routes,
    /// Its health.
    pub health: Health,
    /// What reflection tells.
    pub descriptors: &'static [u8],
    /// Its methods that have an objective.
    pub objectives: &'static [&'static str],
}

impl Service {
    /// Its routes, and those that every server has, each call followed. Once a process.
    fn followed(self, metrics: &telemetry::Metrics) -> anyhow::Result<Routes> {
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(self.descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let methods = Methods::register(metrics, self.health.service, self.descriptors, self.objectives)?;
        let reporter =
            tonic_health::server::HealthService::from_health_reporter(self.health.reporter.clone());
        let routes = self
            .routes
            .add_service(tonic_health::pb::health_server::HealthServer::new(reporter))
            .add_service(reflection().build_v1().context("descriptor set")?)
            .add_service(reflection().build_v1alpha().context("descriptor set")?);
        let follow = axum::middleware::from_fn_with_state(Arc::new(methods), call::follow);
        Ok(Routes::from(routes.into_axum_router().layer(follow)))
    }
}

/// Serves until shutdown, then lets calls in flight finish.
pub async fn serve(
    listener: TcpListener,
    service: Service,
    metrics: telemetry::Metrics,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let health = service.health.clone();
    let routes = service.followed(&metrics)?;
    let incoming = TcpListenerStream::new(listener);
    let drain = async move {
        shutdown.cancelled().await;
        health.close().await;
    };
    Server::builder()
        .tcp_nodelay(true)
        .max_concurrent_streams(CONCURRENT_STREAMS)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, drain)
        .await
        .context("serve gRPC")
}

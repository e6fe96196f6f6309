//! The gRPC server: health, reflection, limits, a span for each call.

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
use tracing::{Span, info_span};

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

/// Serves until shutdown, then lets calls in flight finish.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    health: Health,
    descriptors: &'static [u8],
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let reporter = tonic_health::server::HealthService::from_health_reporter(health.reporter.clone());
    let incoming = TcpListenerStream::new(listener);
    let drain = async move {
        shutdown.cancelled().await;
        health.close().await;
    };
    Server::builder()
        .trace_fn(span)
        .tcp_nodelay(true)
        .max_concurrent_streams(CONCURRENT_STREAMS)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_routes(routes)
        .add_service(tonic_health::pb::health_server::HealthServer::new(reporter))
        .add_service(reflection().build_v1().context("descriptor set")?)
        .add_service(reflection().build_v1alpha().context("descriptor set")?)
        .serve_with_incoming_shutdown(incoming, drain)
        .await
        .context("serve gRPC")
}

/// A span for each call, child of the caller's.
fn span<B>(request: &tonic::codegen::http::Request<B>) -> Span {
    let path = request.uri().path().trim_start_matches('/');
    let (service, method) = path.split_once('/').unwrap_or((path, ""));
    let span = info_span!(
        "rpc",
        otel.name = path,
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
    );
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let caller = telemetry::propagation::read(header("traceparent"), header("tracestate"));
    telemetry::span::set_parent(&span, caller.as_ref());
    span
}

//! A collector of traces in the test's process: what the parts of a platform export over OTLP/gRPC.

mod span;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};
use tonic::{
    Request, Response, Status, async_trait,
    transport::{Server, server::TcpIncoming},
};

pub use self::span::{Event, Kind, Link, Span};

use crate::until;

/// How long a span may take from its end to here, on a busy machine.
const WITHIN: Duration = Duration::from_secs(60);

/// A collector on a port of its own. It answers on threads of its own, also while the test blocks its runtime.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
    /// Taken when it is dropped.
    runtime: Option<Runtime>,
}

/// What it was sent.
#[derive(Debug, Default)]
struct Received {
    spans: Vec<Span>,
    /// Also those that were refused, or that nobody has read.
    attempts: usize,
}

impl Collector {
    /// Takes every span.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start() -> anyhow::Result<Self> {
        Self::serve(false).await
    }

    /// Refuses every export, with an error that says to come back later.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn refusing() -> anyhow::Result<Self> {
        Self::serve(true).await
    }

    /// Accepts connections, and never answers.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn black_hole() -> anyhow::Result<Self> {
        let (collector, listener) = Self::bind().await?;
        let received = Arc::clone(&collector.received);
        collector.spawn(async move {
            let mut open = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                open.push(connection);
                lock(&received).attempts += 1;
            }
        });
        Ok(collector)
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` has to be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every span so far, in the order of their beginnings.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = lock(&self.received).spans.clone();
        spans.sort_by_key(|span| span.start);
        spans
    }

    /// The spans of one trace, in the order of their beginnings.
    pub fn trace(&self, trace_id: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.trace_id == trace_id).collect()
    }

    /// How often something was exported to it; connections, where it never answers.
    pub fn attempts(&self) -> usize {
        lock(&self.received).attempts
    }

    /// Waits until the spans have an answer.
    ///
    /// # Errors
    /// When they have none within a minute; says `what` was waited for, and which spans there are.
    pub async fn wait<T>(&self, what: &str, ask: impl Fn(&[Span]) -> Option<T>) -> anyhow::Result<T> {
        let answer = until(what, WITHIN, async || Ok(ask(&self.spans()))).await;
        answer.map_err(|error| {
            let spans = self.spans();
            let lines: Vec<_> = spans.iter().map(|span| format!("\n  {span}")).collect();
            error.context(format!("{} spans have come:{}", spans.len(), lines.concat()))
        })
    }

    async fn serve(is_refusing: bool) -> anyhow::Result<Self> {
        let (collector, listener) = Self::bind().await?;
        let service =
            TraceServiceServer::new(Receiver { is_refusing, received: Arc::clone(&collector.received) });
        // An export after a long test is one long message.
        let service = service.max_decoding_message_size(64 << 20);
        collector.spawn(async move {
            let _ =
                Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)).await;
        });
        Ok(collector)
    }

    async fn bind() -> anyhow::Result<(Self, TcpListener)> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.spawn(TcpListener::bind("127.0.0.1:0")).await??;
        let address = listener.local_addr()?;
        Ok((Self { address, received: Arc::default(), runtime: Some(runtime) }, listener))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(task);
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Receiver {
    is_refusing: bool,
    received: Arc<Mutex<Received>>,
}

#[async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut received = lock(&self.received);
        received.attempts += 1;
        if self.is_refusing {
            return Err(Status::unavailable("this collector refuses everything"));
        }
        received.spans.extend(request.into_inner().resource_spans.into_iter().flat_map(span::spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn lock(received: &Mutex<Received>) -> std::sync::MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Calls over a real connection, as spans and metrics show them.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Mutex,
    time::{Duration, Instant},
};

use opentelemetry::trace::{SpanKind, Status as SpanStatus, TracerProvider as _};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use proto::order::v1::{
    self as pb,
    order_service_client::OrderServiceClient,
    order_service_server::{OrderService, OrderServiceServer},
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tracing::{Span, subscriber::DefaultGuard};
use tracing_subscriber::{Layer as _, Registry, filter::LevelFilter, layer::SubscriberExt as _};

use super::*;

const SERVICE: &str = "orderly.order.v1.OrderService";
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Answers as its caller wants it.
struct Stub;

type Transitions = Pin<Box<dyn Stream<Item = Result<pb::WatchOrderResponse, Status>> + Send>>;

#[tonic::async_trait]
impl OrderService for Stub {
    type WatchOrderStream = Transitions;

    async fn create_order(
        &self,
        _: Request<pb::CreateOrderRequest>,
    ) -> Result<Response<pb::CreateOrderResponse>, Status> {
        Span::current().record("order_id", "0199");
        Ok(Response::new(pb::CreateOrderResponse::default()))
    }

    async fn get_order(
        &self,
        request: Request<pb::GetOrderRequest>,
    ) -> Result<Response<pb::GetOrderResponse>, Status> {
        Err(Status::new(Code::from_bytes(request.get_ref().order_id.as_bytes()), "as the caller wants it"))
    }

    async fn list_orders(
        &self,
        _: Request<pb::ListOrdersRequest>,
    ) -> Result<Response<pb::ListOrdersResponse>, Status> {
        std::future::pending().await
    }

    async fn cancel_order(
        &self,
        _: Request<pb::CancelOrderRequest>,
    ) -> Result<Response<pb::CancelOrderResponse>, Status> {
        panic!("as the test wants it")
    }

    async fn resolve_order(
        &self,
        _: Request<pb::ResolveOrderRequest>,
    ) -> Result<Response<pb::ResolveOrderResponse>, Status> {
        Err(Status::unimplemented("never asked for"))
    }

    /// Something, and then as many transitions as are asked for and an error, or nothing more.
    async fn watch_order(
        &self,
        request: Request<pb::WatchOrderRequest>,
    ) -> Result<Response<Transitions>, Status> {
        let first = tokio_stream::once(Ok(pb::WatchOrderResponse::default()));
        if request.get_ref().after_version > 0 {
            return Ok(Response::new(Box::pin(
                first.chain(tokio_stream::once(Err(Status::data_loss("gone")))),
            )));
        }
        Ok(Response::new(Box::pin(first.chain(tokio_stream::pending()))))
    }
}

/// Spans that have ended.
#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Spans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().expect("no panic").extend(batch);
        Ok(())
    }
}

/// A server and its caller, on this thread.
struct Scene {
    address: SocketAddr,
    channel: Channel,
    client: OrderServiceClient<Channel>,
    metrics: telemetry::Metrics,
    admitted: Arc<AtomicBool>,
    spans: Spans,
    shutdown: CancellationToken,
    _subscriber: DefaultGuard,
}

impl Scene {
    async fn set() -> anyhow::Result<Self> {
        let spans = Spans::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
        // As in production, without those of libraries.
        let traces = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("test"))
            .with_filter(LevelFilter::INFO);
        let subscriber = tracing::subscriber::set_default(Registry::default().with(traces));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (metrics, shutdown) = (telemetry::Metrics::new(), CancellationToken::new());
        let admitted = Arc::new(AtomicBool::new(true));
        let service = Service {
            routes: gated(Routes::new(OrderServiceServer::new(Stub)), Arc::clone(&admitted)),
            health: Health::new(SERVICE).await,
            descriptors: proto::DESCRIPTORS,
            objectives: &["CreateOrder"],
        };
        tokio::spawn(serve(listener, service, metrics.clone(), shutdown.clone()));
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
        let client = OrderServiceClient::new(channel.clone());
        Ok(Self { address, channel, client, metrics, admitted, spans, shutdown, _subscriber: subscriber })
    }

    /// How many calls of a method have ended like this; nothing where that is not shown.
    fn ended(&self, method: &str, status: &str) -> Option<u64> {
        let labels = format!("rpc_method=\"{method}\",rpc_response_status_code=\"{status}\"");
        let sample = format!("rpc_server_call_duration_seconds_count{{{labels}}} ");
        let text = self.metrics.text();
        text.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok())
    }

    fn active(&self, method: &str) -> Option<f64> {
        let sample = format!("rpc_server_calls_active{{rpc_method=\"{method}\"}} ");
        self.metrics.text().lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok())
    }

    /// The span of the call that ends next.
    async fn span(&self) -> SpanData {
        let mut found = None;
        until("a span has ended", || {
            found = self.spans.0.lock().expect("no panic").pop();
            found.is_some()
        })
        .await;
        found.expect("it has ended")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Waits for what the server does after it has answered.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what} has not come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn method(name: &str) -> String {
    format!("{SERVICE}/{name}")
}

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    span.attributes
        .iter()
        .find(|attribute| attribute.key.as_str() == key)
        .map(|found| found.value.to_string())
}

#[tokio::test]
async fn a_call_is_a_span_of_its_callers_trace_and_an_observation_in_it() -> anyhow::Result<()> {
    let mut scene = Scene::set().await?;
    let mut request = Request::new(pb::CreateOrderRequest::default());
    request.metadata_mut().insert("traceparent", CALLER.parse()?);
    scene.client.create_order(request).await?;
    let (span, method) = (scene.span().await, method("CreateOrder"));
    assert_eq!(
        (span.name.as_ref(), &span.span_kind, &span.status),
        (method.as_str(), &SpanKind::Server, &SpanStatus::Unset)
    );
    assert_eq!(span.span_context.trace_id().to_string(), CALLER[3..35]);
    assert_eq!(span.parent_span_id.to_string(), CALLER[36..52]);
    for (key, expected) in [
        ("rpc.system.name", Some("grpc")),
        ("rpc.method", Some(method.as_str())),
        ("rpc.response.status_code", Some("OK")),
        ("error.type", None),
        ("server.address", Some("127.0.0.1")),
        ("server.port", Some(scene.address.port().to_string().as_str())),
        ("network.peer.address", Some("127.0.0.1")),
        ("order_id", Some("0199")),
    ] {
        assert_eq!(attribute(&span, key).as_deref(), expected, "{key}");
    }
    assert_eq!((scene.ended(&method, "OK"), scene.active(&method)), (Some(1), Some(0.0)));
    let exemplar = format!("trace_id=\"{}\"", &CALLER[3..35]);
    assert!(scene.metrics.openmetrics().contains(&exemplar));
    Ok(())
}

#[tokio::test]
async fn a_status_is_an_error_of_the_span_only_where_it_is_the_servers_fault() -> anyhow::Result<()> {
    let mut scene = Scene::set().await?;
    for (code, name, is_fault) in [
        (Code::NotFound, "NOT_FOUND", false),
        (Code::FailedPrecondition, "FAILED_PRECONDITION", false),
        (Code::Internal, "INTERNAL", true),
        (Code::Unavailable, "UNAVAILABLE", true),
    ] {
        let request = pb::GetOrderRequest { order_id: (code as i32).to_string() };
        assert_eq!(scene.client.get_order(request).await.expect_err("refused").code(), code);
        let span = scene.span().await;
        assert_eq!(attribute(&span, "rpc.response.status_code").as_deref(), Some(name));
        assert_eq!(attribute(&span, "error.type").as_deref(), is_fault.then_some(name));
        assert_eq!(matches!(span.status, SpanStatus::Error { .. }), is_fault, "{name}");
        assert_eq!(scene.ended(&method("GetOrder"), name), Some(1));
    }
    Ok(())
}

#[tokio::test]
async fn known_methods_are_shown_from_the_start_and_no_caller_can_add_to_them() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    until("the server has registered its metrics", || scene.ended(&method("GetOrder"), "OK") == Some(0))
        .await;
    for fault in ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"] {
        assert_eq!(scene.ended(&method("CreateOrder"), fault), Some(0), "{fault}");
        assert_eq!(scene.ended(&method("GetOrder"), fault), None, "{fault} counts against no objective");
    }
    let before = scene.metrics.text().matches("rpc_server_calls_active{").count();
    for path in
        ["/orderly.order.v1.OrderService/Rubbish", "/orderly.billing.v1.BillingService/GetPayment", "/x"]
    {
        let mut client = tonic::client::Grpc::new(scene.channel.clone());
        client.ready().await?;
        let codec = tonic_health_codec();
        let answer = client.unary(Request::new(HealthCheckRequest::default()), path.parse()?, codec).await;
        assert_eq!(answer.expect_err("refused").code(), Code::Unimplemented);
        let span = scene.span().await;
        assert_eq!(
            (span.name.as_ref(), attribute(&span, "rpc.method").as_deref()),
            ("_OTHER", Some("_OTHER"))
        );
    }
    assert_eq!(scene.ended("_OTHER", "UNIMPLEMENTED"), Some(3));
    assert_eq!(scene.metrics.text().matches("rpc_server_calls_active{").count(), before);
    Ok(())
}

fn tonic_health_codec() -> tonic_prost::ProstCodec<HealthCheckRequest, HealthCheckRequest> {
    tonic_prost::ProstCodec::default()
}

#[tokio::test]
async fn a_stream_lasts_until_its_end_or_until_its_caller_goes() -> anyhow::Result<()> {
    let (mut scene, method) = (Scene::set().await?, method("WatchOrder"));
    let watch = pb::WatchOrderRequest::default();
    let mut stream = scene.client.watch_order(watch.clone()).await?.into_inner();
    assert!(stream.message().await?.is_some());
    assert_eq!((scene.active(&method), scene.ended(&method, "OK")), (Some(1.0), Some(0)));
    assert!(scene.spans.0.lock().expect("no panic").is_empty(), "its span has not ended");
    drop(stream);
    let span = scene.span().await;
    assert_eq!(attribute(&span, "rpc.response.status_code").as_deref(), Some("CANCELLED"));
    assert_eq!(span.status, SpanStatus::Unset, "the caller wanted it so");
    assert_eq!((scene.active(&method), scene.ended(&method, "CANCELLED")), (Some(0.0), Some(1)));

    let mut stream =
        scene.client.watch_order(pb::WatchOrderRequest { after_version: 1, ..watch }).await?.into_inner();
    assert!(stream.message().await?.is_some());
    assert_eq!(stream.message().await.expect_err("it fails").code(), Code::DataLoss);
    assert_eq!(attribute(&scene.span().await, "error.type").as_deref(), Some("DATA_LOSS"));
    assert_eq!(scene.ended(&method, "DATA_LOSS"), Some(1));
    Ok(())
}

#[tokio::test]
async fn a_call_without_an_answer_in_time_and_one_that_panics_are_the_servers_fault() -> anyhow::Result<()> {
    let mut scene = Scene::set().await?;
    let mut request = Request::new(pb::ListOrdersRequest::default());
    request.set_timeout(Duration::from_secs(2));
    scene.client.list_orders(request).await.expect_err("too late");
    assert_eq!(attribute(&scene.span().await, "error.type").as_deref(), Some("DEADLINE_EXCEEDED"));
    assert_eq!(scene.ended(&method("ListOrders"), "DEADLINE_EXCEEDED"), Some(1));
    scene.client.cancel_order(pb::CancelOrderRequest::default()).await.expect_err("it panics");
    assert_eq!(attribute(&scene.span().await, "error.type").as_deref(), Some("INTERNAL"));
    assert_eq!(scene.ended(&method("CancelOrder"), "INTERNAL"), Some(1));
    Ok(())
}

#[tokio::test]
async fn what_is_refused_before_the_database_was_seen_counts_and_probes_have_no_spans() -> anyhow::Result<()>
{
    let mut scene = Scene::set().await?;
    scene.admitted.store(false, Ordering::Release);
    let refused = scene.client.create_order(pb::CreateOrderRequest::default()).await.expect_err("refused");
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(attribute(&scene.span().await, "error.type").as_deref(), Some("UNAVAILABLE"));
    assert_eq!(scene.ended(&method("CreateOrder"), "UNAVAILABLE"), Some(1));
    HealthClient::new(scene.channel.clone()).check(HealthCheckRequest::default()).await?;
    let is_counted = || scene.ended("grpc.health.v1.Health/Check", "OK") == Some(1);
    until("the probe is counted", is_counted).await;
    assert!(scene.spans.0.lock().expect("no panic").is_empty());
    Ok(())
}

#[tokio::test]
async fn a_callers_rubbish_begins_a_new_trace() -> anyhow::Result<()> {
    let mut scene = Scene::set().await?;
    for rubbish in ["", "rubbish", "00-00000000000000000000000000000000-b7ad6b7169203331-01", &CALLER[..52]] {
        let mut request = Request::new(pb::CreateOrderRequest::default());
        request.metadata_mut().insert("traceparent", rubbish.parse()?);
        scene.client.create_order(request).await?;
        let span = scene.span().await;
        assert!(span.span_context.is_valid(), "{rubbish}");
        assert_eq!(span.parent_span_id, opentelemetry::trace::SpanId::INVALID, "{rubbish}");
        assert_ne!(span.span_context.trace_id().to_string(), CALLER[3..35]);
    }
    Ok(())
}

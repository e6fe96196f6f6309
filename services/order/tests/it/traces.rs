//! What traces and logs tell of orders, and what they never tell.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex},
};

use opentelemetry::trace::{SpanId, TracerProvider as _};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use outbox::Headers;
use proto::order::v1::CreateOrderRequest;
use testkit::recorder::Recorder;
use time::OffsetDateTime;
use tonic::Code;
use tracing::{Instrument as _, field::Empty, info_span, subscriber::DefaultGuard};
use tracing_subscriber::{
    Layer as _, Registry,
    filter::LevelFilter,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
};
use uuid::Uuid;

use crate::{
    answers::Answers,
    records::Records,
    scene::{Scene, body, create, id},
};

/// What was seen on this thread: spans that have ended, and every line of the log.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<(Vec<SpanData>, Vec<u8>)>>);

impl Seen {
    fn begin() -> (Self, DefaultGuard) {
        let seen = Self::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(seen.clone()).build();
        let traces = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("test"))
            .with_filter(LevelFilter::INFO);
        let log = fmt::layer().with_ansi(false).with_writer(seen.clone()).with_filter(LevelFilter::TRACE);
        let guard = tracing::subscriber::set_default(Registry::default().with(traces).with(log));
        (seen, guard)
    }

    fn spans(&self) -> Vec<SpanData> {
        self.0.lock().expect("no panic").0.clone()
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic").1).into_owned()
    }
}

impl SpanExporter for Seen {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().expect("no panic").0.extend(batch);
        Ok(())
    }
}

impl io::Write for Seen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").1.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Seen {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    span.attributes
        .iter()
        .find(|attribute| attribute.key.as_str() == key)
        .map(|found| found.value.to_string())
}

#[tokio::test]
async fn a_batch_is_a_span_that_is_linked_to_its_callers_and_a_lone_order_has_none() -> anyhow::Result<()> {
    const CALLERS: usize = 20;
    let scene = Scene::set().await?;
    let (seen, _guard) = Seen::begin();
    let call = || info_span!("call", order_id = Empty);
    let alone = id(&create(&scene.api, body()).instrument(call()).await?)?;
    let spans = seen.spans();
    assert!(spans.iter().all(|span| span.name != "place batch"));
    let span = spans.iter().find(|span| span.name == "call").expect("the caller's span");
    assert_eq!(attribute(span, "order_id"), Some(alone.to_string()));

    let calls = (0..CALLERS).map(|_| create(&scene.api, body()).instrument(call()));
    let orders = futures_util::future::try_join_all(calls).await?;
    let spans = seen.spans();
    let is_call = |span: &&SpanData| span.name == "call";
    let told: HashSet<String> =
        spans.iter().filter(is_call).filter_map(|span| attribute(span, "order_id")).collect();
    assert!(orders.iter().all(|order| told.contains(&order.order_id)), "{told:?}");
    let callers: HashSet<_> = spans.iter().filter(is_call).map(|span| span.span_context.span_id()).collect();
    let batches: Vec<_> = spans.iter().filter(|span| span.name == "place batch").collect();
    assert!(!batches.is_empty(), "those that came at one time were placed together");
    for batch in batches {
        let orders: usize = attribute(batch, "orders").expect("its size").parse()?;
        assert!(orders > 1 && batch.links.len() == orders, "{orders}, {:?}", batch.links);
        assert!(batch.links.iter().all(|link| callers.contains(&link.span_context.span_id())));
        let links_back = |span: &&SpanData| {
            span.links.iter().any(|link| link.span_context.span_id() == batch.span_context.span_id())
        };
        assert_eq!(spans.iter().filter(is_call).filter(links_back).count(), orders, "and they to it");
        assert_eq!(batch.parent_span_id, SpanId::INVALID, "it is nobody's child");
    }
    Ok(())
}

#[tokio::test]
async fn a_request_that_is_repeated_says_nothing_a_second_time() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (recorder, first, second) = (Recorder::start(), Recorder::caller(), Recorder::caller());
    let request = CreateOrderRequest { request_id: Uuid::now_v7().to_string(), ..body() };
    for caller in [&first, &second] {
        let call = info_span!("call", order_id = Empty);
        telemetry::span::set_parent(&call, Some(caller));
        create(&scene.api, request.clone()).instrument(call).await?;
    }
    let said = |caller| recorder.spans(caller, "create order-created").len();
    assert_eq!((said(&first), said(&second)), (1, 0));
    Ok(())
}

#[tokio::test]
async fn a_deadline_that_passes_begins_a_trace_of_its_own() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = scene.place().await?;
    let late = "update orders set deadline = now() - interval '1 second' where order_id = $1";
    sqlx::query(late).bind(order_id).execute(&scene.superuser).await?;
    let (recorder, looks) = (Recorder::start(), info_span!("look"));
    let looked = telemetry::span::context(&looks);
    assert_eq!(scene.orders().pass_deadlines(OffsetDateTime::now_utc(), 1).instrument(looks).await?, 1);
    let release = "select headers from outbox.event
                   where topic = 'stock-requests' and aggregate_id = $1 and sequence = 2";
    let release: Vec<u8> =
        sqlx::query_scalar(release).bind(order_id.to_string()).fetch_one(&scene.superuser).await?;
    let headers = Headers::decode(&release)?;
    let released = telemetry::propagation::read(headers.text("traceparent"), None).expect("a context");
    assert!(released.is_sampled() && released.trace_id() != looked.trace_id());
    let passed = recorder.spans(&released, "pass deadline").remove(0);
    assert_eq!(passed.parent_span_id, SpanId::INVALID);
    assert_eq!(attribute(&passed, "order_id"), Some(order_id.to_string()));
    let release = recorder.spans(&released, "create stock-requests").remove(0);
    assert_eq!(release.parent_span_id, passed.span_context.span_id());
    Ok(())
}

#[tokio::test]
async fn no_trace_and_no_log_line_has_a_payment_token() -> anyhow::Result<()> {
    const TOKEN: &str = "tok_recognisable_4242";
    let scene = Scene::set().await?;
    let (seen, _guard) = Seen::begin();
    let request = || CreateOrderRequest { payment_token: TOKEN.to_owned(), ..body() };
    let order_id = id(&create(&scene.api, request()).instrument(info_span!("call")).await?)?;
    let records = Records::begin(&scene).await?;
    let answers = Answers::to(&scene, order_id).await?;
    // Its payment is asked for with the token.
    records.send(&answers.reserved()).await?;
    records.settle().await?;
    scene.get(order_id).await?;
    scene.cancel(order_id).await?;
    // PostgreSQL quotes the row that it does not take.
    let refuse = "alter table orders add constraint refuse check (customer_id <> 'cust-refused')";
    sqlx::raw_sql(refuse).execute(&scene.superuser).await?;
    let refused = CreateOrderRequest { customer_id: "cust-refused".to_owned(), ..request() };
    let refused = create(&scene.api, refused).instrument(info_span!("call")).await.expect_err("refused");
    assert_eq!(refused.code(), Code::Internal);
    assert!(!format!("{refused:?}").contains(TOKEN), "{refused:?}");
    records.end().await?;
    let (log, spans) = (seen.log(), format!("{:?}", seen.spans()));
    assert!(log.contains("DEBUG") && log.contains("statement failed") && spans.contains("call"), "{log}");
    for line in log.lines().chain([spans.as_str()]) {
        assert!(!line.contains(TOKEN), "{line}");
    }
    Ok(())
}

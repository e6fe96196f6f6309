//! What is recorded while a test runs: every span that ends, and every log line, down to TRACE.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use opentelemetry::{
    global,
    trace::{Status, TracerProvider as _},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use telemetry::SpanContext;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::{Layer as _, Registry, filter::LevelFilter, fmt, layer::SubscriberExt as _};
use uuid::Uuid;

/// Spans of all tests, each of which knows its traces.
static SPANS: Mutex<Vec<SpanData>> = Mutex::new(Vec::new());
static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Records what happens on this thread, for as long as it lives.
pub struct Recorder {
    log: Log,
    _subscriber: DefaultGuard,
}

impl Recorder {
    /// From now on.
    pub fn start() -> Self {
        let provider = PROVIDER.get_or_init(|| {
            let provider = SdkTracerProvider::builder().with_simple_exporter(Exporter).build();
            global::set_tracer_provider(provider.clone());
            provider
        });
        let (log, traces) =
            (Log::default(), tracing_opentelemetry::layer().with_tracer(provider.tracer("test")));
        let lines = fmt::layer().with_ansi(false).with_writer({
            let log = log.clone();
            move || log.clone()
        });
        let subscriber = Registry::default().with(lines).with(traces.with_filter(LevelFilter::INFO));
        Self { log, _subscriber: tracing::subscriber::set_default(subscriber) }
    }

    /// The span of somebody else, in a trace of its own that is recorded.
    pub fn caller() -> SpanContext {
        let traceparent = format!("00-{}-b7ad6b7169203331-01", Uuid::new_v4().simple());
        telemetry::propagation::read(Some(&traceparent), None).expect("a span")
    }

    /// The spans of this name in a trace that have ended, in the order of their ends.
    pub fn spans(&self, within: &SpanContext, name: &str) -> Vec<SpanData> {
        let spans = lock(&SPANS);
        let of_trace = spans.iter().filter(|span| span.span_context.trace_id() == within.trace_id());
        of_trace.filter(|span| span.name == name).cloned().collect()
    }

    /// The spans of this name that are linked to one of this trace.
    pub fn linked(&self, with: &SpanContext, name: &str) -> Vec<SpanData> {
        let is_linked =
            |span: &&SpanData| span.links.iter().any(|link| link.span_context.trace_id() == with.trace_id());
        lock(&SPANS).iter().filter(is_linked).filter(|span| span.name == name).cloned().collect()
    }

    /// Everything that spans of this trace and log lines of this thread say.
    pub fn everything(&self, within: &SpanContext) -> String {
        let mut text = String::from_utf8_lossy(&lock(&self.log.0)).into_owned();
        for span in lock(&SPANS).iter().filter(|span| span.span_context.trace_id() == within.trace_id()) {
            text += &format!("{span:?}\n");
        }
        text
    }
}

/// An attribute of a span, as text; empty where it has none of this name.
pub fn attribute(span: &SpanData, name: &str) -> String {
    let attribute = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
    attribute.map(|attribute| attribute.value.to_string()).unwrap_or_default()
}

/// Whether a span says that it failed.
pub fn has_failed(span: &SpanData) -> bool {
    matches!(span.status, Status::Error { .. })
}

/// The `traceparent` of a span.
pub fn traceparent(span: &SpanContext) -> String {
    telemetry::propagation::write(span).map(|(_, value)| value).next().unwrap_or_default()
}

#[derive(Debug)]
struct Exporter;

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        lock(&SPANS).extend(batch);
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

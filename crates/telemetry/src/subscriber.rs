//! Logs to standard error, traces to an OTLP collector where one is named.

use std::{env, io, panic};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::LevelFilter,
    fmt,
    layer::SubscriberExt as _,
    util::{SubscriberInitExt as _, TryInitError},
};

/// How logs are written.
#[derive(Clone, Debug, clap::Args)]
pub struct LogArgs {
    /// Log lines for people or for machines. What is logged is set by `RUST_LOG` (default: info).
    #[arg(long, env = "ORDERLY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One readable line an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// Telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The OTEL_ variables name no usable collector.
    #[error("trace exporter could not be built; check the OTEL_EXPORTER_OTLP_ variables")]
    Exporter(#[from] ExporterBuildError),
    /// A subscriber exists already.
    #[error("telemetry was initialised twice")]
    Twice(#[from] TryInitError),
}

/// Keeps telemetry going; flushes when it is dropped.
#[derive(Debug)]
pub struct Guard {
    traces: SdkTracerProvider,
    /// Writes the last lines when it is dropped.
    _log: WorkerGuard,
}

impl Guard {
    /// Sends and writes what is buffered; bounded by the exporter's own time limit and a second for the log.
    pub fn flush(self) {
        drop(self);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = self.traces.shutdown() {
            tracing::debug!(%error, "last spans were not exported");
        }
    }
}

/// Sets up logs and traces; needs a tokio runtime.
///
/// Every span has its ids, so that records carry a trace context; spans are exported where
/// `OTEL_EXPORTER_OTLP_ENDPOINT` or its `_TRACES_` form is set. Sampling and the rest follow the OpenTelemetry
/// environment variables.
pub fn init(service: &'static str, version: &'static str, args: &LogArgs) -> Result<Guard, Error> {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,sqlx::postgres::notice=warn"));
    // A reader that is slow, stuck or gone costs log lines, not requests.
    let (lines, log) = tracing_appender::non_blocking(io::stderr());
    let format = fmt::layer().with_writer(lines).with_target(true);
    let logs = match args.log_format {
        LogFormat::Text => format.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).boxed(),
        LogFormat::Json => format.json().flatten_event(true).boxed(),
    };
    let provider = tracer_provider(service, version)?;
    // Not under RUST_LOG: a quieter log must not cut the traces that go through the outbox.
    let traces =
        tracing_opentelemetry::layer().with_tracer(provider.tracer(service)).with_filter(LevelFilter::INFO);
    Registry::default().with(logs.with_filter(filter)).with(traces).try_init()?;
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, reason = panic.payload_as_str(), "panicked");
    }));
    Ok(Guard { traces: provider, _log: log })
}

fn tracer_provider(service: &'static str, version: &'static str) -> Result<SdkTracerProvider, Error> {
    let named = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let mut resource = Resource::builder();
    if !named("OTEL_SERVICE_NAME") {
        resource = resource.with_service_name(service);
    }
    let resource = resource.with_attribute(KeyValue::new("service.version", version)).build();
    let mut provider = SdkTracerProvider::builder().with_resource(resource);
    if named("OTEL_EXPORTER_OTLP_ENDPOINT") || named("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
        provider = provider.with_batch_exporter(SpanExporter::builder().with_tonic().build()?);
    }
    Ok(provider.build())
}

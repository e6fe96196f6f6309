//! Logs to standard error, traces to an OTLP collector where one is named.

mod format;

use std::{env, io, panic, sync::OnceLock};

use opentelemetry::{KeyValue, global, trace::TracerProvider as _};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::Dispatch;
use tracing_appender::non_blocking::{ErrorCounter, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::LevelFilter,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    util::{SubscriberInitExt, TryInitError},
};

use self::format::Traced;
use crate::{exporter::Exporter, sampler, span::TRACER, statements};

static DROPPED_LINES: OnceLock<ErrorCounter> = OnceLock::new();

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
    /// An OTEL_ variable has a value that is none.
    #[error("{name} is {value:?}, not {wanted}")]
    Variable {
        /// Which.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        wanted: &'static str,
    },
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
/// Every span has its ids, so that records carry a trace context and log lines say in which trace they are. Spans are
/// recorded and exported where `OTEL_EXPORTER_OTLP_ENDPOINT` or its `_TRACES_` form is set; one in twenty of the
/// traces that begin here, and all that a caller samples, or as the OpenTelemetry environment variables want it.
pub fn init(service: &'static str, version: &'static str, args: &LogArgs) -> Result<Guard, Error> {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,sqlx::postgres::notice=warn"));
    // A reader that is slow, stuck or gone costs log lines, not requests.
    let (lines, log) = tracing_appender::non_blocking(io::stderr());
    let _ = DROPPED_LINES.set(lines.error_counter());
    let provider = tracer_provider(service, version)?;
    let ansi = io::IsTerminal::is_terminal(&io::stderr());
    subscriber(&provider, filter, args.log_format, ansi, lines).try_init()?;
    global::set_tracer_provider(provider.clone());
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, reason = panic.payload_as_str(), "panicked");
    }));
    Ok(Guard { traces: provider, _log: log })
}

/// Logs to this writer, and spans to this provider.
fn subscriber<W>(
    provider: &SdkTracerProvider,
    filter: EnvFilter,
    format: LogFormat,
    ansi: bool,
    writer: W,
) -> impl Into<Dispatch> + use<W>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(writer).with_target(true);
    let logs = match format {
        LogFormat::Text => lines.with_ansi(ansi).map_event_format(Traced::text).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).map_event_format(Traced::json).boxed(),
    };
    // Not under RUST_LOG: a quieter log must not cut the traces that go through the outbox.
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(TRACER))
        .with_location(false)
        .with_target(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(LevelFilter::INFO);
    Registry::default().with(logs.with_filter(filter)).with(traces).with(statements::layer())
}

/// Log lines of this process that were not written.
pub(crate) fn dropped_lines() -> usize {
    DROPPED_LINES.get().map_or(0, ErrorCounter::dropped_lines)
}

fn tracer_provider(service: &'static str, version: &'static str) -> Result<SdkTracerProvider, Error> {
    let mut resource = Resource::builder();
    if variable("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(service);
    }
    let resource = resource
        .with_attribute(KeyValue::new("service.namespace", "orderly"))
        .with_attribute(KeyValue::new("service.version", version))
        .build();
    let provider = SdkTracerProvider::builder().with_resource(resource);
    if !is_exported()? {
        // Recorded for nobody, whatever the caller samples: only the ids are made.
        return Ok(provider.with_sampler(Sampler::AlwaysOff).build());
    }
    let (name, argument) = (variable("OTEL_TRACES_SAMPLER"), variable("OTEL_TRACES_SAMPLER_ARG"));
    let sampler = sampler::from_variables(name.as_deref(), argument.as_deref())?;
    let exporter = Exporter::new(SpanExporter::builder().with_tonic().build()?);
    Ok(provider.with_sampler(sampler).with_batch_exporter(exporter).build())
}

/// Whether spans go somewhere.
fn is_exported() -> Result<bool, Error> {
    let is_off = variable("OTEL_SDK_DISABLED").is_some_and(|disabled| disabled.eq_ignore_ascii_case("true"))
        || variable("OTEL_TRACES_EXPORTER").as_deref() == Some("none");
    let named = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
    if is_off || named.into_iter().all(|name| variable(name).is_none()) {
        return Ok(false);
    }
    for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
        if let Some(value) = variable(name).filter(|value| value != "grpc") {
            return Err(Error::Variable { name, value, wanted: "grpc, the only protocol that is built in" });
        }
    }
    Ok(true)
}

/// An environment variable; one that is empty is not set.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests;

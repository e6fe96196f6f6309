//! W3C trace context in and out of spans: <https://www.w3.org/TR/trace-context/>.

use std::collections::HashMap;

use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// `traceparent` and, where there is one, `tracestate` of the current span; nothing outside a trace.
pub fn current() -> Vec<(&'static str, String)> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    ["traceparent", "tracestate"]
        .into_iter()
        .filter_map(|name| carrier.remove(name).filter(|value| !value.is_empty()).map(|value| (name, value)))
        .collect()
}

/// Makes a span the child of the remote span that these header values name; values that name none change nothing.
pub fn set_parent(span: &Span, traceparent: Option<&str>, tracestate: Option<&str>) {
    let context = TraceContextPropagator::new()
        .extract_with_context(&Context::new(), &Headers { traceparent, tracestate });
    if context.span().span_context().is_valid() {
        // Refused only where no trace is recorded at all.
        let _ = span.set_parent(context);
    }
}

struct Headers<'h> {
    traceparent: Option<&'h str>,
    tracestate: Option<&'h str>,
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.traceparent,
            "tracestate" => self.tracestate,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

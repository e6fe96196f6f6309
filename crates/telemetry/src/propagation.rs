//! W3C trace context in and out of headers: <https://www.w3.org/TR/trace-context/>.

use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{SpanContext, TraceContextExt as _},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// The names of its headers.
pub const HEADERS: [&str; 2] = ["traceparent", "tracestate"];

/// The span that these header values name; nothing where they name none.
pub fn read(traceparent: Option<&str>, tracestate: Option<&str>) -> Option<SpanContext> {
    traceparent?;
    let headers = Headers { traceparent, tracestate };
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
    let span = context.span().span_context().clone();
    span.is_valid().then_some(span)
}

/// `traceparent` and, where there is one, `tracestate` of a span; nothing for one that names none.
pub fn write(span: &SpanContext) -> impl Iterator<Item = (&'static str, String)> {
    let traceparent = span
        .is_valid()
        .then(|| format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8() & 1));
    let tracestate =
        traceparent.is_some().then(|| span.trace_state().header()).filter(|state| !state.is_empty());
    HEADERS.into_iter().zip([traceparent, tracestate]).filter_map(|(name, value)| Some((name, value?)))
}

/// Where the current span is; names none outside of any.
pub fn current() -> SpanContext {
    Context::current().span().span_context().clone()
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
        HEADERS.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_read_is_written() {
        for (traceparent, tracestate) in [(PARENT, None), (PARENT, Some("vendor=a,other=b"))] {
            let span = read(Some(traceparent), tracestate).expect("a span");
            assert!(span.is_remote() && span.is_sampled());
            let written: Vec<_> = write(&span).collect();
            let expected: Vec<_> = HEADERS
                .into_iter()
                .zip([Some(traceparent), tracestate])
                .filter_map(|(name, value)| Some((name, value?.to_owned())))
                .collect();
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn rubbish_names_no_span() {
        for rubbish in [
            None,
            Some(""),
            Some("00"),
            Some("nonsense"),
            Some("00-00000000000000000000000000000000-b7ad6b7169203331-01"),
            Some("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"),
            Some("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            Some("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"),
        ] {
            assert_eq!(read(rubbish, Some("\u{0}")), None, "{rubbish:?}");
        }
        assert_eq!(write(&SpanContext::empty_context()).count(), 0);
    }
}

//! Spans that belong where another process says, and spans of what is over already.

use std::{borrow::Cow, time::SystemTime};

use opentelemetry::{
    Context, KeyValue, global,
    trace::{Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Under which all spans are made.
pub(crate) const TRACER: &str = "orderly";

/// Makes a span that was not entered yet the child of a remote one. Without one, it begins a trace.
pub fn set_parent(span: &Span, parent: Option<&SpanContext>) {
    let context =
        parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent.clone()));
    // Refused only where no trace is recorded at all.
    let _ = span.set_parent(context);
}

/// Links a span to another one. A span that begins a trace is sampled where one of those is that it was linked to before
/// it was entered.
pub fn link(span: &Span, to: &SpanContext) {
    span.add_link(to.clone());
}

/// Where a span is. From now on its parent is settled.
pub fn context(span: &Span) -> SpanContext {
    span.context().span().span_context().clone()
}

/// Something that is over, as a span.
#[derive(Clone, Debug)]
pub struct Finished<'s> {
    /// Its name, of which there are few.
    pub name: Cow<'static, str>,
    /// Its kind.
    pub kind: SpanKind,
    /// Whose child it is.
    pub parent: &'s SpanContext,
    /// What else it has to do with.
    pub links: &'s [SpanContext],
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// By the semantic conventions.
    pub attributes: Vec<KeyValue>,
    /// Why it failed, where it did.
    pub error: Option<String>,
}

impl Finished<'_> {
    /// Records it and says where it is. Where the parent is not sampled nothing is recorded, and it is where the parent
    /// is.
    pub fn record(self) -> SpanContext {
        if !self.parent.is_sampled() {
            return self.parent.clone();
        }
        let parent = Context::new().with_remote_span_context(self.parent.clone());
        let links = self.links.iter().map(|link| Link::with_context(link.clone())).collect();
        let builder = SpanBuilder::from_name(self.name)
            .with_kind(self.kind)
            .with_start_time(self.start)
            .with_links(links)
            .with_attributes(self.attributes);
        let mut span = global::tracer(TRACER).build_with_context(builder, &parent);
        if let Some(error) = self.error {
            span.set_status(Status::error(error));
        }
        span.end_with_timestamp(self.end.max(self.start));
        span.span_context().clone()
    }
}

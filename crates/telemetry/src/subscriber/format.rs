//! Log lines that say in which trace they are.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::propagation;

/// A format, and the ids of the current trace and span behind what it writes.
pub struct Traced<F> {
    format: F,
    is_json: bool,
}

impl<F> Traced<F> {
    pub fn text(format: F) -> Self {
        Self { format, is_json: false }
    }

    pub fn json(format: F) -> Self {
        Self { format, is_json: true }
    }
}

impl<S, N, F> FormatEvent<S, N> for Traced<F>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let span = propagation::current();
        if !span.is_valid() {
            return self.format.format_event(context, writer, event);
        }
        let mut line = String::with_capacity(256);
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let (trace_id, span_id) = (span.trace_id(), span.span_id());
        let line = line.trim_end();
        match line.strip_suffix('}').filter(|_| self.is_json) {
            Some(object) => {
                writeln!(writer, r#"{object},"trace_id":"{trace_id}","span_id":"{span_id}"}}"#)
            }
            None => writeln!(writer, "{line} trace_id={trace_id}"),
        }
    }
}

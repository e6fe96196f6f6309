use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use tracing::{Span, info, info_span};

use super::*;
use crate::{propagation, span};

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// Spans that have ended, and lines that were written.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<(Vec<SpanData>, Vec<u8>)>>);

impl Seen {
    /// What is seen while this is done, one at a time: the provider of finished spans is the process's.
    fn of(format: LogFormat, work: impl FnOnce()) -> (Vec<SpanData>, String) {
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = Self::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler::by_parent(Sampler::AlwaysOff))
            .with_simple_exporter(seen.clone())
            .build();
        let lines = seen.clone();
        let subscriber = subscriber(&provider, EnvFilter::new("info"), format, false, move || lines.clone());
        global::set_tracer_provider(provider);
        tracing::dispatcher::with_default(&subscriber.into(), work);
        let (spans, lines) = std::mem::take(&mut *seen.0.lock().expect("no panic"));
        (spans, String::from_utf8(lines).expect("text"))
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

fn called(traceparent: &str) -> (Span, SpanContext) {
    let caller = propagation::read(Some(traceparent), None).expect("a caller");
    let span = info_span!("call", order_id = "0199");
    span::set_parent(&span, Some(&caller));
    (span, caller)
}

/// As sqlx says it.
fn statement(sql: &str) {
    tracing::debug!(target: "sqlx::query", summary = "insert into orders (a)", db.statement = sql, elapsed_secs = 0.25);
}

#[test]
fn what_a_sampled_caller_does_is_seen_with_its_statements() {
    let (spans, _) = Seen::of(LogFormat::Text, || {
        let (span, caller) = called(CALLER);
        span.in_scope(|| {
            assert_eq!(propagation::current().trace_id(), caller.trace_id());
            statement("\n\ninsert into orders (a) values ($1)\n");
        });
        let other = info_span!("of another trace");
        span::set_parent(&other, None);
        span::link(&other, &span::context(&span));
        other.in_scope(|| {});
    });
    let [insert, other, call] = &spans[..] else { panic!("{spans:#?}") };
    assert_eq!((&*insert.name, &insert.span_kind), ("INSERT orders", &SpanKind::Client));
    assert_eq!(insert.parent_span_id, call.span_context.span_id());
    let took = insert.end_time.duration_since(insert.start_time).expect("in order");
    assert_eq!(took.as_millis(), 250);
    let text = insert.attributes.iter().find(|attribute| attribute.key.as_str() == "db.query.text");
    assert_eq!(
        text.map(|text| text.value.to_string()).as_deref(),
        Some("insert into orders (a) values ($1)")
    );
    assert_eq!(call.span_context.trace_id().to_string(), CALLER[3..35]);
    assert_eq!(call.parent_span_id.to_string(), CALLER[36..52]);
    // Begins a trace, and is recorded for what it is linked to.
    assert_eq!(other.parent_span_id, SpanId::INVALID);
    assert_ne!(other.span_context.trace_id(), call.span_context.trace_id());
    assert_eq!(other.links[0].span_context.span_id(), call.span_context.span_id());

    let (spans, _) = Seen::of(LogFormat::Text, || {
        let (span, _) = called(UNSAMPLED);
        span.in_scope(|| statement("insert into orders (a) values ($1)"));
        info_span!("of nobody").in_scope(|| statement("select 1"));
    });
    assert_eq!(spans.len(), 0, "{spans:#?}");
}

#[test]
fn a_line_says_in_which_trace_it_is() {
    let write = || {
        info!("outside");
        called(UNSAMPLED).0.in_scope(|| info!(amount = 7, "inside"));
    };
    let (_, text) = Seen::of(LogFormat::Text, write);
    let [outside, inside] = &text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert!(!outside.contains("trace_id") && outside.ends_with("outside"), "{outside}");
    assert!(inside.ends_with(&format!("amount=7 trace_id={}", &CALLER[3..35])), "{inside}");

    let (_, json) = Seen::of(LogFormat::Json, write);
    let [outside, inside] = &json.lines().collect::<Vec<_>>()[..] else { panic!("{json}") };
    assert!(!outside.contains("trace_id"), "{outside}");
    assert!(inside.contains(&format!(r#","trace_id":"{}","span_id":""#, &CALLER[3..35])), "{inside}");
    assert!(inside.ends_with(r#""}"#) && inside.contains(r#""order_id":"0199""#), "{inside}");
}

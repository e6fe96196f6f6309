//! What every binary shows of itself: logs, traces, metrics, and a sign of life.
//!
//! Trace context travels through the outbox and Kafka as `traceparent` and `tracestate` headers: [`propagation`] reads and
//! writes them, [`span`] puts spans where they belong. What can be measured is in the [`catalogue`].

pub mod catalogue;
mod exporter;
mod heartbeat;
mod metrics;
pub mod propagation;
mod sampler;
pub mod span;
mod statements;
mod subscriber;

pub use heartbeat::Heartbeat;
pub use metrics::{
    Counted, Counter, Counters, Definition, Gauge, Gauges, Histogram, Histograms, Kind, Metrics,
};
pub use opentelemetry::{
    KeyValue,
    trace::{SpanContext, SpanKind, TraceId},
};
pub use statements::describe_database;
pub use subscriber::{Error, Guard, LogArgs, LogFormat, init};

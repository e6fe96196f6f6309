//! What every binary shows of itself: logs, traces, metrics, and a sign of life.
//!
//! Trace context travels through the outbox and Kafka as `traceparent` and `tracestate` headers; see [`propagation`].

mod heartbeat;
mod metrics;
pub mod propagation;
mod subscriber;

pub use heartbeat::Heartbeat;
pub use metrics::Metrics;
pub use subscriber::{Error, Guard, LogArgs, LogFormat, init};

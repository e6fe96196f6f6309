//! The read side of event-driven services: exactly-once effects in PostgreSQL from at-least-once records in Kafka.
//!
//! A batch of records is ONE transaction: the fence of its partitions, the inbox rows, the effects, the new outbox
//! events; then the Kafka commit. A [`Handler`] therefore speaks SQL only. Whatever happens outside PostgreSQL is an
//! intent row written by a handler and carried out by [`dispatch`].

mod batch;
pub mod dispatch;
mod error;
mod fence;
mod handler;
mod inbox;
mod kafka;
mod message;
mod metrics;
mod run;
mod schema;

pub use error::Error;
pub use handler::{HandleError, Handler};
pub use kafka::KafkaArgs;
pub use message::Message;
pub use metrics::Metrics;
pub use run::{Consumer, Subscription};
pub use schema::{migrate, pending};

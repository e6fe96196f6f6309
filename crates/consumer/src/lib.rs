//! The read side of event-driven services: exactly-once effects in PostgreSQL from at-least-once records in Kafka.
//!
//! A batch of records is ONE transaction: the fence of its partitions, the inbox rows, the effects, the dead letters, the
//! new outbox events; then the Kafka commit. A [`Handler`] therefore speaks SQL only. Whatever happens outside PostgreSQL
//! is an intent row written by a handler and carried out by [`dispatch`].
//!
//! `run` is a member of a group and `worker` its loop, over the `buffer` of what was read; `batch` is the transaction, with
//! `fence`, `hold`, `inbox` and `dead_letter` in it. `replay` carries out what operators order by [`dead_letters`]. `spans` says in
//! which trace each of them shows.

mod batch;
mod buffer;
mod dead_letter;
pub mod dead_letters;
pub mod dispatch;
mod error;
mod fence;
mod handler;
mod hold;
mod horizon;
mod inbox;
mod kafka;
mod message;
mod metrics;
mod noted;
mod open_letters;
mod replay;
mod ring;
mod run;
mod schema;
mod spans;
mod subscription;
mod undelivered;
mod worker;

pub use error::{Error, Kind};
pub use handler::{HandleError, Handler};
pub use horizon::read_until;
pub use kafka::KafkaArgs;
pub use message::Message;
pub use metrics::Metrics;
pub use noted::Noted;
pub use run::Consumer;
pub use schema::{migrate, pending};
pub use subscription::{EventType, Limits, Policy, Subscription, Topic, Unknown};
pub use undelivered::{Attempts, Parked, Undelivered};

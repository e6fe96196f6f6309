//! A consumer in this process, on a real PostgreSQL and a real Kafka: what takes effect, what becomes a dead letter, what
//! waits behind it, and what an operator does about it.

mod dead_letters;
mod groups;
mod key_order;
mod metrics;
mod outages;
mod poison;
mod policies;
mod positions;
mod readme;
mod rights;
mod ring;
mod scene;
mod spans;
mod undelivered;

//! The relay: publishes the outbox of each service to Kafka, in order per key, losing nothing.
//!
//! `publish` is the loop of one outbox; `lease` says who may run it, `cursor` what comes next, `producer` gets it into
//! Kafka, `session` is the one PostgreSQL session under all of it.

pub mod config;
mod cursor;
mod lease;
mod metrics;
mod partitioner;
mod pending;
mod producer;
mod publish;
pub mod run;
mod session;
mod state;
pub mod status;

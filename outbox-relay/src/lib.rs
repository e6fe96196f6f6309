//! The relay: publishes the outbox of each service to Kafka, in order per key, losing nothing.
//!
//! `outbox` is one outbox, session after session; `lease` says who may publish it, `owner` does: `reader`
//! reads what comes after the `cursor`, from a `window` where much waits, `producer` gets it into Kafka, `flight` knows
//! what is on its way, `trace` tells it, `ring` clears what is drained. `session` is the one PostgreSQL session under all of it.

pub mod config;
mod cursor;
mod flight;
mod lease;
mod metrics;
mod outbox;
mod owner;
mod partitioner;
mod pending;
mod producer;
mod reader;
pub mod rebase;
pub mod release;
pub mod repartition;
mod ring;
pub mod run;
mod session;
mod state;
pub mod status;
mod stop;
mod trace;
mod wake;
mod window;

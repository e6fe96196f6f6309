//! A real PostgreSQL and a real Kafka on this machine, started and stopped as child processes.
//!
//! `prepare` makes a server's data and says how to start it: a [`Launch`]. Who supervises processes starts that in its
//! own way, everyone else with [`Server`]. Both servers listen on 127.0.0.1 only.

mod account;
mod error;
pub mod kafka;
mod launch;
pub mod port;
pub mod postgres;
mod program;
mod server;

pub use error::Error;
pub use launch::{Launch, StopSignal};
pub use server::Server;

/// What this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

//! What tests add to the stack: servers that are started when first needed, a database per test, a platform per test.
//!
//! Nothing is mocked: [`Database`] is a real PostgreSQL database made from a migrated template, [`Platform`] runs the
//! real binaries as processes, with a prefix of its own for topics and groups. Whoever uses a server shares it with
//! every other test; a test that stops one starts a [`Dedicated`] one.

mod collector;
mod database;
mod dedicated;
mod platform;
mod purity;
pub mod recorder;
pub mod rights;
mod servers;
mod statements;
mod topics;
mod until;

pub use collector::{Collector, Event, Kind, Link, Span};
pub use database::Database;
pub use dedicated::Dedicated;
pub use platform::{Part, Platform, Services, Worker};
pub use purity::check_purity;
pub use servers::{Servers, servers};
pub use statements::check_statements;
pub use topics::TOPICS;
pub use until::until;

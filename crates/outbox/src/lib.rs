//! The write side of a transactional outbox on PostgreSQL: schema, events, and one way to append them.
//!
//! A business transaction is a [`UnitOfWork`]. It hands out its connection for the domain's own statements, and
//! [`UnitOfWork::commit`] takes it away again: it appends the events **last** and commits, so the order of ids is the
//! order of commits for every key whose writers hold the same lock.

mod error;
mod event;
pub mod headers;
mod schema;
mod unit_of_work;

pub use error::Error;
pub use event::{Event, Source};
pub use headers::Headers;
pub use schema::{Roles, migrate, pending, pending_in, published_until, quote_identifier};
pub use unit_of_work::UnitOfWork;

/// The most that key, headers and payload of one event may add up to, in bytes: below the broker's default of 1 MiB,
/// with room for what a dead letter adds.
pub const MAX_EVENT_BYTES: usize = 900 * 1024;

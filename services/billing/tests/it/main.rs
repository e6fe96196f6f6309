//! Billing on a real PostgreSQL.

mod breaker;
mod payments;
mod provider;
mod statements;

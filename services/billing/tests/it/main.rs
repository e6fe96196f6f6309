//! Billing on a real PostgreSQL.

mod payments;
mod provider;
mod statements;

//! Billing on a real PostgreSQL.

mod database;
mod payments;
mod provider;

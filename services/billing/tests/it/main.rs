//! Billing on a real PostgreSQL.

mod breaker;
mod metrics;
mod payments;
mod provider;
mod scene;
mod statements;
mod traces;

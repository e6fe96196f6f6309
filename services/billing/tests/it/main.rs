//! Billing on a real PostgreSQL.

mod breaker;
mod metrics;
mod payments;
mod provider;
mod recorder;
mod scene;
mod statements;
mod traces;

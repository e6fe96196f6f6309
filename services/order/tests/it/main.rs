//! The order service on a real PostgreSQL, with its consumer on a real Kafka.

mod answers;
mod cancel;
mod create;
mod deadlines;
mod list;
mod metrics;
mod payments;
mod products;
mod purity;
mod rebuild;
mod records;
mod resolve;
mod rights;
mod saga;
mod scene;
mod statements;
mod stock;
mod traces;
mod watch;

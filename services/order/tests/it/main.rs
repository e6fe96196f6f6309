//! The order service on a real PostgreSQL, with its consumer on a real Kafka.

mod cancel;
mod create;
mod list;
mod payments;
mod purity;
mod records;
mod rights;
mod scene;
mod statements;
mod watch;

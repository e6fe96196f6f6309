//! Inventory on a real PostgreSQL.

mod announce;
mod batches;
mod buyers;
mod catalogue;
mod list;
mod measure;
mod metrics;
mod migrations;
mod purity;
mod reservations;
mod rights;
mod scene;
mod schedules;
mod statements;
mod stock;

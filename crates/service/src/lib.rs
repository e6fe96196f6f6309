//! What every service shares: command line, health, reflection, admin port, errors, pages, graceful shutdown.
//!
//! A service implements [`App`], and its `main` is [`main`].

pub mod admin;
mod app;
mod batcher;
mod config;
mod database;
mod grpc;
pub mod page;
mod run;
pub mod shutdown;
pub mod status;

pub use app::App;
pub use batcher::Batcher;
pub use config::{Addresses, DatabaseArgs, Secret, ServerArgs};
pub use run::{EX_USAGE, command, main};

//! The write side on a real PostgreSQL.

mod append;
mod readme;
mod scene;

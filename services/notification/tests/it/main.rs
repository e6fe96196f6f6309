//! Notification on a real PostgreSQL, with a mail server that answers from a script.

mod api;
mod audit;
mod delivery;
mod output;
mod purity;
mod requests;
mod scene;
mod smtp;
mod statements;

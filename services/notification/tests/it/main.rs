//! Notification on a real PostgreSQL, with a mail server and an endpoint that answer from scripts.

mod api;
mod audit;
mod batches;
mod delivery;
mod endpoint;
mod giving_up;
mod metrics;
mod outages;
mod output;
mod purity;
mod requests;
mod scene;
mod smtp;
mod statements;
mod traces;
mod webhooks;
mod worker;

//! `orderly bench`: the ratio benchmarks of docs/BENCHMARKS.md. A figure of one machine says little; what it is beside
//! a peer that was measured in the same run says more.

mod broker;
pub mod consumer;
mod record;
pub mod relay;
mod servers;
mod table;
pub mod telemetry;

use std::process::ExitCode;

/// Arguments of `orderly bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Measure the relay beside a raw Kafka producer and beside Debezium, on servers of its own
    Relay(Box<relay::Args>),
    /// Measure how many effects a second a consumer has, in batches and one by one, on servers of its own
    Consumer(consumer::Args),
    /// Measure what traces cost: a whole platform with them and without, in alternating pairs
    Telemetry(telemetry::Args),
}

/// Runs one benchmark.
///
/// # Errors
/// As of the benchmark.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Relay(args) => relay::run(*args).await,
        Command::Consumer(args) => consumer::run(args).await,
        Command::Telemetry(args) => telemetry::run(args).await,
    }
}

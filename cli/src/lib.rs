//! What the `orderly` command does: starts the platform on this machine, shows it, loads it, audits its promise,
//! works through its dead letters, and plays the outside world (payment provider, mail server) for it.
//!
//! Each subcommand is a module with an `Args` and a `run`; [`platform`] tells all of them where the platform is.

pub mod bench;
pub mod catalogue;
pub mod credentials;
pub mod dlq;
pub mod exporter;
pub mod load;
pub mod output;
pub mod platform;
pub mod provision;
pub mod rebuild;
pub mod simulate;
pub mod status;
pub mod supervisor;
pub mod topics;
pub mod up;
pub mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Orderly, an event-driven order platform: start it on this machine, put load on it, audit what it promises
#[derive(Debug, Parser)]
#[command(name = "orderly", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    data_dir: platform::DataDir,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start PostgreSQL, Kafka and every service on this machine; Ctrl-C stops it all
    Up(Box<up::Args>),
    /// Stop a platform that was started with `up --detach`
    Down(up::down::Args),
    /// Stop the platform and delete its data
    Clean(up::down::CleanArgs),
    /// Show every process of the platform, and whether it is ready
    Status(status::Args),
    /// Create and check the Kafka topics
    Topics(topics::Args),
    /// Place orders, by rate or by concurrency, and record each acknowledged one
    Load(load::Args),
    /// Audit the promise over all databases and topics, and name each offender
    Verify(verify::Args),
    /// Look at the records that could not be processed; replay or discard them
    Dlq(dlq::Args),
    /// Make a view anew from its events, compare it with the live one, and swap the two
    Rebuild(rebuild::Args),
    /// Ask Kafka about topics, groups and their lag, and show it to Prometheus
    Exporter(exporter::Args),
    /// Measure what the platform is made of beside its peers, in the same run
    Bench(bench::Args),
    /// Play a part of the outside world: the payment provider or the mail server
    Simulate(simulate::Args),
}

/// Runs one command. Failures are printed to stderr with their causes; what the codes mean is the command's.
pub async fn run(cli: Cli) -> ExitCode {
    match cli.command {
        // A process of the platform, with logs and traces like all of them.
        Command::Exporter(_) => {}
        // The simulators are servers, whose log says what they do; the other commands talk to people by themselves.
        Command::Simulate(_) => output::init_tracing("info"),
        _ => output::init_tracing("warn"),
    }
    let result = match cli.command {
        Command::Up(args) => up::run(*args).await,
        Command::Down(args) => up::down::run(args).await,
        Command::Clean(args) => up::down::clean(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Topics(args) => topics::run(args).await,
        Command::Load(args) => load::run(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Dlq(args) => dlq::run(args).await,
        Command::Rebuild(args) => rebuild::run(args).await,
        Command::Exporter(args) => exporter::run(args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Simulate(args) => simulate::run(args).await,
    };
    let code = result.unwrap_or_else(|err| {
        output::error(&err);
        ExitCode::FAILURE
    });
    output::flush();
    code
}

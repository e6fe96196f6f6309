//! The `orderly` command: reads its arguments, runs one subcommand, and says in words why it failed.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(cli::Cli::parse()).await
}

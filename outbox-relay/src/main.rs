//! The `outbox-relay` binary.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser as _;
use outbox_relay::{
    config::{Cli, Command},
    rebase, release, repartition, run, status,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command(),
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { service::EX_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    if let Err(error) = command.config().sources() {
        return complain(&error.into(), service::EX_USAGE);
    }
    match start(&command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => complain(&error, 1),
    }
}

fn start(command: &Command) -> anyhow::Result<bool> {
    // One worker: an outbox waits for PostgreSQL and hands over to librdkafka's threads, and with more of them it would
    // be woken on another one each time.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _entered = runtime.enter();
    let guard =
        telemetry::init("outbox-relay", VERSION, &command.config().server.log).context("telemetry")?;
    let done = match command {
        Command::Run(config) => runtime.block_on(run::run(config, VERSION)).map(|()| true),
        Command::Status { json, config } => {
            runtime.block_on(status::status(config, *json, &mut io::stdout()))
        }
        Command::Release { topic, key, retry, discard, config } => {
            let refused = release::Refused::from_flags(*retry, *discard);
            runtime.block_on(release::release(config, topic, key, refused, &mut io::stdout()))
        }
        Command::Repartition { topic, groups, config } => {
            runtime.block_on(repartition::repartition(config, topic, groups, &mut io::stdout()))
        }
        Command::Rebase { dry_run, config } => {
            runtime.block_on(rebase::rebase(config, *dry_run, &mut io::stdout()))
        }
        Command::CheckConfig(config) => {
            writeln!(io::stdout(), "{config:#?}").map(|()| true).map_err(Into::into)
        }
        Command::Healthcheck(config) => runtime.block_on(run::healthcheck(config)).map(|()| true),
    };
    guard.flush();
    // A question to a broker that is away may still block a thread; everything that matters has been drained.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

fn complain(error: &anyhow::Error, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "outbox-relay: {error:#}");
    code.into()
}

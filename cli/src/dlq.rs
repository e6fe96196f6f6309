//! `orderly dlq`: what consumers could not process, and what an operator does about it.
//!
//! Every subcommand asks all three databases, as the operator's role; [`consumer::dead_letters`] is what that role may do.
//! Data goes to stdout, what is said about it to stderr.

mod decode;
mod desk;
mod discard;
mod export;
mod letter;
mod list;
mod outcome;
mod replay;
mod replays;
mod select;
mod show;
mod text;
mod watch;

use std::process::ExitCode;

use self::desk::Desk;
use crate::platform::{DataDir, Flags, Platform};

const EXAMPLES: &str = "\
A record that cannot be processed becomes a dead letter: it is parked, and later records of its
key are held behind it. Only what is parked is selected; what is held follows by itself, in order.

  orderly dlq list                                        what has failed, by error
  orderly dlq list --ids --consumer billing               the letters themselves
  orderly dlq show ID                                     one of them, with its payload and its past
  orderly dlq replay --fingerprint F --reason 'fixed in 1.4.2' --dry-run
  orderly dlq discard ID --reason 'a test record'";

/// Arguments of `orderly dlq`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every subcommand takes. Kafka is not asked.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("kafka", |arg| arg.hide(true)),
    // Below what a subcommand adds.
    mut_args(|arg| arg.global(true).hide_env_values(true).display_order(900)),
)]
struct Common {
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    flags: Flags,
    /// Put what is found on stdout as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show what has failed, in groups of one error, or with --ids each letter
    List(list::Args),
    /// Show everything about one letter: headers, payload, what waits behind it, what was done with it
    Show(show::Args),
    /// Process letters again, each key in its order; exit code 1 when any is dead again
    Replay(replay::Args),
    /// Show the replays that run, are stopped, or ended within a day
    Status(replays::Status),
    /// Stop a replay after the record that is being processed
    Stop(replays::Turn),
    /// Go on with a replay that was stopped
    Resume(replays::Turn),
    /// Give letters up for good; what waits behind them goes on
    Discard(discard::Args),
    /// Write letters as NDJSON, one a line, with what waits behind them
    Export(export::Args),
}

/// Runs `orderly dlq`. The exit code is 0 when what was asked for was done, 1 when it failed or a record is dead again,
/// 130 when Ctrl-C ended the looking.
///
/// # Errors
/// When there is no platform, a database does not answer, or what was named does not exist.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Common { data_dir, flags, json } = args.common;
    let desk = Desk::open(&Platform::find(&data_dir, &flags)?, json)?;
    match args.command {
        Command::List(args) => list::run(&desk, args).await,
        Command::Show(args) => show::run(&desk, args).await,
        Command::Replay(args) => replay::run(&desk, args).await,
        Command::Status(args) => replays::status(&desk, args).await,
        Command::Stop(args) => replays::stop(&desk, args).await,
        Command::Resume(args) => replays::resume(&desk, args).await,
        Command::Discard(args) => discard::run(&desk, args).await,
        Command::Export(args) => export::run(&desk, args).await,
    }
}

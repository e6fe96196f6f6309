//! `orderly verify`: audits the promise. Nothing is lost, nothing happens twice, no order's events overtake each other.
//!
//! `collect` reads databases, topics and the simulators' ledgers by itself, `check` judges what was read, and `rest`
//! waits first: in a system that moves, what has not arrived looks like what is lost.

mod check;
mod collect;
mod expected;
mod facts;
mod report;
mod rest;
mod saga;

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    process::ExitCode,
    time::{Duration, Instant},
};

pub use self::report::{Invariant, Offender, Outcome, Report};
use self::{collect::Databases, facts::Facts, rest::Watch};
use crate::{
    output,
    platform::{DataDir, Flags, Platform},
};

/// Arguments of `orderly verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    flags: Flags,
    /// Longest wait for outboxes, groups and orders to come to rest; what has not is an offender
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    settle: Duration,
    /// Put the findings on stdout as one JSON object
    #[arg(long)]
    json: bool,
}

/// Exit code when something could not be read.
const UNREADABLE: u8 = 2;

/// Runs the audit and prints what it found. The exit code is 0 when the promise holds, 1 when it is broken, 2 when
/// something could not be read.
///
/// # Errors
/// When the findings cannot be printed.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut said = String::new();
    let progress = |text: &str| {
        if said != text {
            output::note(text);
            text.clone_into(&mut said);
        }
    };
    let audited = match Platform::find(&args.data_dir, &args.flags) {
        Ok(platform) => audit_with(&platform, args.settle, progress).await,
        Err(error) => Err(error),
    };
    let report = match audited {
        Ok(report) => report,
        Err(error) => {
            output::error(&error);
            return Ok(ExitCode::from(UNREADABLE));
        }
    };
    // What was said before stands before the findings.
    output::flush();
    match print(&report, args.json) {
        // Whoever closed the pipe has seen enough, and the exit code still tells the rest.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(match (report.holds, report.broken().is_empty()) {
        (true, _) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(UNREADABLE),
    })
}

fn print(report: &Report, json: bool) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut stdout, report)?;
        writeln!(stdout)
    } else {
        write!(stdout, "{report}")
    }
}

/// Waits at most `settle` for the platform to come to rest, and audits it.
///
/// # Errors
/// When a database, a topic or a ledger cannot be read.
pub async fn audit(platform: &Platform, settle: Duration) -> anyhow::Result<Report> {
    audit_with(platform, settle, |_| {}).await
}

async fn audit_with(
    platform: &Platform,
    settle: Duration,
    mut progress: impl FnMut(&str),
) -> anyhow::Result<Report> {
    let started = Instant::now();
    let databases = Databases::new(platform)?;
    let watch = Watch::new(platform, &databases)?;
    let mut rest = watch.settle(settle, &mut progress).await?;
    let settle_seconds = started.elapsed().as_secs_f64();
    progress("reading databases, topics and ledgers");
    let facts = collect::facts(platform, &databases).await?;
    // Whoever places orders during an audit makes it compare different moments.
    let after = watch.look().await?;
    if rest.invariant.broken == 0 && (after.invariant.broken > 0 || !rest.still(&after)) {
        rest.invariant
            .offend("platform", "moved while it was read; stop what places orders, and run this again");
        rest.delivered = false;
    }
    let mut invariants = vec![rest.invariant];
    invariants.extend(check::RULES.iter().map(|rule| rule.judge(&facts, rest.delivered)));
    Ok(Report::new(settle_seconds, invariants, numbers(&facts)))
}

fn numbers(facts: &Facts) -> BTreeMap<&'static str, u64> {
    let counts = [
        ("orders", facts.orders.len()),
        ("order_events", facts.order_events.len()),
        ("products", facts.products.len()),
        ("reservations", facts.reservations.len()),
        ("payments", facts.payments.len()),
        ("notifications", facts.notifications.len()),
        ("records", facts.log.records.len() + facts.log.strays.len()),
        ("outbox_rows", facts.outbox.len()),
        ("inbox_rows", facts.inbox.len()),
        ("dead_letters", facts.dead_letters.len()),
        ("provider_payments", facts.provider.len()),
        ("mails", facts.mails.len()),
        ("acked_orders", facts.acked.orders.len()),
        ("acked_runs", facts.acked.files),
    ];
    let units = facts.products.values().map(|product| product.available.saturating_add(product.reserved));
    let units = units.fold(0, i64::saturating_add).try_into().unwrap_or(0);
    let counts = counts.into_iter().map(|(name, count)| (name, count as u64));
    counts.chain([("stock_units", units)]).collect()
}

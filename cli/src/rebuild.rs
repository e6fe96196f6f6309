//! `orderly rebuild orders`: makes the view of orders anew from their events, compares it with the live one, and puts it
//! in its place where that is wanted.

use std::{process::ExitCode, str::FromStr as _, time::Instant};

use order::rebuild::{Options, Progress, Report, rebuild};
use outbox::Roles;
use reqwest::Url;
use sqlx::postgres::PgConnectOptions;

use crate::{
    credentials::{AUDIT, OPERATOR, RELAY},
    output,
    platform::{DataDir, Database, Flags, Platform},
};

/// Exit code when the view could not be rebuilt.
const FAILED: u8 = 2;
/// How many differences are shown; `--json` has more.
const SHOWN: usize = 20;

/// Arguments of `orderly rebuild`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Rebuild the view of orders from their events and compare the two, beside the running service
    #[command(after_help = EXAMPLES)]
    Orders(Orders),
}

#[derive(Debug, clap::Args)]
struct Orders {
    #[command(flatten)]
    data_dir: DataDir,
    /// PostgreSQL server, with the role to use: postgres://ROLE:PASSWORD@HOST:PORT
    #[arg(long, env = "ORDERLY_POSTGRES", value_name = "URL", hide_env_values = true)]
    postgres: Option<Url>,
    /// Put the rebuilt view in the place of the live one, which is kept as `orders_before_rebuild`
    #[arg(long)]
    swap: bool,
    /// Delete the view that a swap has kept
    #[arg(long)]
    drop_old: bool,
    /// Put what was found on stdout as one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Without --swap nothing changes. With it, whoever writes orders waits for a moment; nothing is
lost, and no service needs a restart. The exit code is 0 when every order was equal, 1 when any
was not (--swap has mended it), and 2 when the view could not be rebuilt.

  orderly rebuild orders                 is the view what the events say?
  orderly rebuild orders --swap          make it so
  orderly rebuild orders --drop-old      delete what the last swap has kept";

/// Rebuilds, and prints what was found. The exit code is 0 when the live view was equal, 1 when it was not, 2 when it
/// could not be rebuilt.
///
/// # Errors
/// When what was found cannot be printed.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Orders(args) = args.command;
    let rebuilt = make(&args).await;
    output::progress("");
    let report = match rebuilt {
        Ok(report) => report,
        Err(error) => {
            output::error(&error);
            return Ok(ExitCode::from(FAILED));
        }
    };
    output::flush();
    let text = if args.json { serde_json::to_string(&report)? } else { in_words(&report) };
    output::data(text)?;
    Ok(if report.different_values == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn make(args: &Orders) -> anyhow::Result<Report> {
    let flags = Flags { postgres: args.postgres.clone(), ..Flags::default() };
    let platform = Platform::find(&args.data_dir, &flags)?;
    let app = Database::Order.app();
    let roles = Roles { app: &app, relay: RELAY, audit: AUDIT, operator: OPERATOR };
    // Not the whole error: it may show the URL.
    let database = PgConnectOptions::from_str(&platform.owner_url(Database::Order)?)
        .map_err(|_| anyhow::anyhow!("the URL of {} is not valid", Database::Order.name()))?
        .application_name("orderly rebuild");
    let (options, started) = (Options { swap: args.swap, drop_old: args.drop_old }, Instant::now());
    rebuild(&database, &roles, options, |step| output::progress(&so_far(step, started))).await
}

fn so_far(step: Progress, started: Instant) -> String {
    match step {
        Progress::Reading { events, orders } => {
            let rate = events as f64 / started.elapsed().as_secs_f64().max(0.001);
            format!("{events} events of {orders} orders read, {rate:.0}/s")
        }
        Progress::Indexing => "making indexes".to_owned(),
        Progress::CatchingUp { orders } => format!("catching up with {orders} orders"),
        Progress::Comparing => "comparing".to_owned(),
        Progress::Swapping { attempt: 1 } => "swapping".to_owned(),
        Progress::Swapping { attempt } => format!("swapping, attempt {attempt}: somebody holds the table"),
    }
}

fn in_words(report: &Report) -> String {
    let mut text = format!(
        "{} events of {} orders in {:.1} s ({:.0} events/s); {} orders changed meanwhile and were caught up with\n",
        report.events, report.orders, report.seconds, report.events_per_second, report.caught_up
    );
    for difference in report.differences.iter().take(SHOWN) {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".to_owned());
        text.push_str(&format!(
            "  {} {}: {}, by its events {}\n",
            difference.order_id,
            difference.column,
            value(&difference.live),
            value(&difference.rebuilt)
        ));
    }
    let shown = report.different_values.min(report.differences.len().min(SHOWN) as u64);
    if report.different_values > shown {
        text.push_str(&format!(
            "  and {} more values; --json has the first 1000\n",
            report.different_values - shown
        ));
    }
    let locked = report.locked_seconds.unwrap_or_default();
    text.push_str(&match (report.different_orders, report.swapped) {
        (0, false) => "equal: the view is what the events say; --swap would change nothing".to_owned(),
        (0, true) => format!("equal, and swapped; writers waited {locked:.2} s"),
        (orders, false) => format!("{orders} orders differ; --swap would mend them"),
        (orders, true) => format!(
            "{orders} orders differed and are mended; writers waited {locked:.2} s. The old view is \
             orders_before_rebuild until the next swap or --drop-old"
        ),
    });
    text
}

#[cfg(test)]
mod tests {
    use order::rebuild::Difference;

    use super::*;

    fn report() -> Report {
        Report {
            events: 5_000,
            orders: 1_000,
            reading_seconds: 0.5,
            events_per_second: 10_000.0,
            seconds: 1.0,
            caught_up: 3,
            different_orders: 0,
            different_values: 0,
            differences: Vec::new(),
            swapped: false,
            locked_seconds: None,
        }
    }

    #[test]
    fn what_was_found_is_told_in_words() {
        insta::assert_snapshot!(in_words(&report()), @"
        5000 events of 1000 orders in 1.0 s (10000 events/s); 3 orders changed meanwhile and were caught up with
        equal: the view is what the events say; --swap would change nothing
        ");
        let difference = Difference {
            order_id: "0199aa00-0000-7000-8000-000000000000".parse().expect("an id"),
            column: "status_reason".to_owned(),
            live: Some("OUT_OF_STOCK".to_owned()),
            rebuilt: None,
        };
        let damaged = Report {
            different_orders: 1,
            different_values: 30,
            differences: vec![difference],
            swapped: true,
            locked_seconds: Some(0.0412),
            ..report()
        };
        insta::assert_snapshot!(in_words(&damaged), @"
        5000 events of 1000 orders in 1.0 s (10000 events/s); 3 orders changed meanwhile and were caught up with
          0199aa00-0000-7000-8000-000000000000 status_reason: OUT_OF_STOCK, by its events null
          and 29 more values; --json has the first 1000
        1 orders differed and are mended; writers waited 0.04 s. The old view is orders_before_rebuild until the next swap or --drop-old
        ");
    }
}

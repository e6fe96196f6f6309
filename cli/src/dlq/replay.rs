//! `orderly dlq replay`: orders letters to be processed again, and looks on.

use std::process::ExitCode;

use anyhow::Context as _;
use consumer::dead_letters::{self, Filter, Progress};
use serde_json::json;

use super::{
    desk::{Desk, Office},
    outcome,
    select::{Because, Selection},
    text::count,
    watch,
};
use crate::output;

const HELP: &str = "\
The consumers process the letters themselves, from their database: nothing goes through a topic
again. Whoever looks on may stop looking with Ctrl-C; `orderly dlq stop` stops the replay.

A letter that fails again stays where it was, and what waits behind it goes on waiting. The exit
code is 0 when every letter has taken effect, 1 when any is dead again, was left or was discarded
meanwhile, and 130 after Ctrl-C.

  orderly dlq replay --fingerprint F --reason 'fixed in 1.4.2' --dry-run
  orderly dlq replay --consumer billing --rate 50 --reason 'the provider is back' --results";

const NOTHING: &str = "No parked letter is selected that no replay has yet; `orderly dlq list` shows all.";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    because: Because,
    /// At most so many records a second, for each consumer
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Only say what would be replayed
    #[arg(long)]
    dry_run: bool,
    /// Only order it; the consumers carry it out
    #[arg(long, conflicts_with = "dry_run")]
    detach: bool,
    /// Say what has become of each record
    #[arg(long, conflicts_with_all = ["dry_run", "detach"])]
    results: bool,
}

pub(super) async fn run(desk: &Desk, args: Args) -> anyhow::Result<ExitCode> {
    let actor = args.because.actor()?;
    let selected = desk.selected(&args.selection, false).await?;
    if args.dry_run {
        return dry_run(desk, &selected).await;
    }
    let mut ordered: Vec<(&Office, Progress)> = Vec::new();
    for (office, filter) in selected {
        let order = dead_letters::replay(&office.pool, &filter, args.rate, args.because.act(&actor));
        match order.await.with_context(|| office.away()) {
            Ok(replays) => ordered.extend(replays.into_iter().map(|replay| (office, replay))),
            Err(error) if ordered.is_empty() => return Err(error),
            Err(error) => {
                let before: Vec<_> = ordered.iter().map(|(office, _)| office.consumer()).collect();
                return Err(error.context(format!(
                    "only the letters of {} are replayed; `orderly dlq status` shows how",
                    before.join(" and ")
                )));
            }
        }
    }
    for (office, replay) in &ordered {
        let (letters, id) = (count(replay.selected, "letter"), replay.id);
        output::note(format!("{}: {letters} to be replayed, as replay {id}", office.consumer()));
    }
    if ordered.is_empty() {
        output::note(NOTHING);
    } else if args.detach {
        output::note("Look again with `orderly dlq status`.");
    }
    if args.detach || ordered.is_empty() {
        let named =
            |(office, replay): (&Office, Progress)| Progress { consumer: office.consumer().into(), ..replay };
        desk.print_json(&ordered.into_iter().map(named).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(outcomes) = watch::until_ended(ordered).await? else {
        return Ok(ExitCode::from(watch::INTERRUPTED));
    };
    desk.print_json(&outcomes)?;
    outcome::report(&outcomes, args.results && !desk.json)
}

async fn dry_run(desk: &Desk, selected: &[(&Office, Filter)]) -> anyhow::Result<ExitCode> {
    let mut previews = Vec::new();
    for (office, filter) in selected {
        let preview = dead_letters::preview(&office.pool, filter).await.with_context(|| office.away())?;
        if preview.selected > 0 {
            previews.push((office.consumer(), preview));
        }
    }
    let data: Vec<_> = previews
        .iter()
        .map(|(consumer, preview)| {
            json!({ "consumer": consumer, "selected": preview.selected, "keys": preview.keys, "held": preview.held })
        })
        .collect();
    if desk.print_json(&data)? {
        return Ok(ExitCode::SUCCESS);
    }
    for (consumer, preview) in &previews {
        let (letters, keys) = (count(preview.selected, "letter"), count(preview.keys, "key"));
        let held = count(preview.held, "record");
        output::data(format!(
            "{consumer}: {letters} would be replayed, and then {held} held behind them; {keys} would go on"
        ))?;
    }
    output::note(if previews.is_empty() { NOTHING } else { "Nothing was done. Without --dry-run it is." });
    Ok(ExitCode::SUCCESS)
}

/// Within what an interval of PostgreSQL can be divided by.
fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.001..=1e6).contains(&rate) { Ok(rate) } else { Err("not between 0.001 and 1000000".to_owned()) }
}

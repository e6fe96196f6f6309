//! `orderly dlq discard`: gives letters up for good.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use anyhow::{Context as _, bail, ensure};
use consumer::dead_letters::{self, Filter};
use futures_util::TryStreamExt as _;
use serde_json::json;

use super::{
    desk::{Desk, Office},
    select::{Because, Selection},
    text::count,
};
use crate::output;

const HELP: &str = "\
A discarded letter never takes effect. It stays in the database with who discarded it, and why.
Only the letters that were counted are discarded, whatever is parked while you answer.";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    because: Because,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Letters that were shown. Only they are discarded, whatever is parked meanwhile.
struct Shown<'d> {
    office: &'d Office,
    letters: Filter,
    held: i64,
}

pub(super) async fn run(desk: &Desk, args: Args) -> anyhow::Result<ExitCode> {
    let actor = args.because.actor()?;
    let asks = !args.yes;
    ensure!(
        !asks || io::stdin().is_terminal(),
        "there is no terminal to ask on; say --yes to discard without being asked"
    );
    let mut shown = Vec::new();
    for (office, filter) in desk.selected(&args.selection, true).await? {
        shown.extend(look(office, filter).await?);
    }
    let total: usize = shown.iter().map(|shown| shown.letters.ids.len()).sum();
    if total == 0 {
        output::note("No parked letter is selected; `orderly dlq list` shows all.");
    }
    for Shown { office, letters, held } in &shown {
        let letters = count(i64::try_from(letters.ids.len())?, "letter");
        let behind = count(*held, "record");
        output::note(format!(
            "{}: {letters} to be given up for good, {behind} held behind them to go on",
            office.consumer()
        ));
    }
    if asks && total > 0 {
        confirm(total)?;
    }
    let mut discarded = Vec::new();
    for Shown { office, letters, .. } in &shown {
        let act = args.because.act(&actor);
        let done = dead_letters::discard(&office.pool, letters, act).await;
        let done =
            done.with_context(|| format!("{}; {} were discarded before", office.away(), discarded.len()))?;
        discarded.push(
            json!({ "consumer": office.consumer(), "discarded": done.discarded, "released": done.released }),
        );
        let (letters, behind) = (count(done.discarded, "letter"), count(done.released, "record"));
        output::note(format!("{}: {letters} discarded, {behind} released", office.consumer()));
        if done.released > 0 {
            output::note("What waited is being processed: `orderly dlq status` shows how.");
        }
    }
    desk.print_json(&discarded)?;
    Ok(ExitCode::SUCCESS)
}

async fn look(office: &Office, filter: Filter) -> anyhow::Result<Option<Shown<'_>>> {
    let mut shown = Shown { office, letters: Filter::default(), held: 0 };
    let mut letters = dead_letters::letters(&office.pool, &filter).with_context(|| office.away())?;
    while let Some(letter) = letters.try_next().await.with_context(|| office.away())? {
        if letter.state == "parked" {
            shown.letters.ids.push(letter.id);
        } else {
            shown.held += 1;
        }
    }
    Ok((!shown.letters.ids.is_empty()).then_some(shown))
}

fn confirm(total: usize) -> anyhow::Result<()> {
    output::note(format!(
        "They cannot be brought back. Type {total} to discard {}:",
        if total == 1 { "it" } else { "them" }
    ));
    output::flush();
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if answer.trim() != total.to_string() {
        bail!("nothing was discarded");
    }
    Ok(())
}

//! `orderly dlq status`, `stop` and `resume`: replays that were ordered.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use consumer::dead_letters::{self, Progress};
use uuid::Uuid;

use super::{
    desk::Desk,
    outcome::{self, Outcome},
    select::Because,
    text::{self, moment, short},
};
use crate::output;

/// How long a replay is shown after its end.
const SHOWN: Duration = Duration::from_secs(86_400);
/// Of a reason in a table.
const REASON: usize = 60;

#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// Only this one, with what has become of its letters
    #[arg(value_name = "REPLAY_ID")]
    id: Option<Uuid>,
    /// Say what has become of each record
    #[arg(long, requires = "id")]
    results: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Turn {
    /// The replay's id, from `status`
    #[arg(value_name = "REPLAY_ID")]
    id: Uuid,
    #[command(flatten)]
    because: Because,
}

pub(super) async fn status(desk: &Desk, args: Status) -> anyhow::Result<ExitCode> {
    if let Some(id) = args.id {
        let (office, progress) = desk.replay(id).await?;
        let outcome = Outcome::of(office, progress).await?;
        if desk.print_json(&outcome)? {
            return Ok(ExitCode::SUCCESS);
        }
        output::data(render(std::slice::from_ref(&outcome.progress)))?;
        // It is what it is: only `replay` judges it by its exit code.
        outcome::report(&[outcome], args.results)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut replays = Vec::new();
    for office in desk.all() {
        let found = dead_letters::replays(&office.pool, SHOWN).await.with_context(|| office.away())?;
        let ours = found.into_iter().filter(|replay| replay.consumer == office.group());
        replays.extend(ours.map(|replay| Progress { consumer: office.consumer().to_owned(), ..replay }));
    }
    if desk.print_json(&replays)? {
        return Ok(ExitCode::SUCCESS);
    }
    if replays.is_empty() {
        output::note("No replay runs, is stopped, or ended within a day.");
        return Ok(ExitCode::SUCCESS);
    }
    output::data(render(&replays))?;
    for replay in replays.iter().filter(|replay| replay.state == "stopped") {
        let why = text::plain(replay.words.as_deref().unwrap_or("no reason is known"));
        output::note(format!("{} was stopped: {why}", replay.id));
        output::note(format!("  to go on:  orderly dlq resume {} --reason '...'", replay.id));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn stop(desk: &Desk, args: Turn) -> anyhow::Result<ExitCode> {
    turn(desk, args, "running", "stopped").await
}

pub(super) async fn resume(desk: &Desk, args: Turn) -> anyhow::Result<ExitCode> {
    turn(desk, args, "stopped", "running").await
}

async fn turn(desk: &Desk, args: Turn, from: &str, to: &str) -> anyhow::Result<ExitCode> {
    let actor = args.because.actor()?;
    let (office, before) = desk.replay(args.id).await?;
    let (id, act) = (args.id, args.because.act(&actor));
    let turned = match to {
        "stopped" => dead_letters::stop(&office.pool, id, act).await,
        _ => dead_letters::resume(&office.pool, id, act).await,
    };
    if !turned.with_context(|| office.away())? {
        bail!("replay {id} is {}, not {from}; `orderly dlq status {id}` shows more", before.state);
    }
    let (_, now) = desk.replay(id).await?;
    let now = Progress { consumer: office.consumer().to_owned(), ..now };
    if desk.print_json(&now)? {
        return Ok(ExitCode::SUCCESS);
    }
    output::data(render(std::slice::from_ref(&now)))?;
    output::note(match to {
        "stopped" => format!("Stopped. `orderly dlq resume {id} --reason '...'` goes on with it."),
        _ => format!("It goes on. `orderly dlq status {id}` shows how."),
    });
    Ok(ExitCode::SUCCESS)
}

fn render(replays: &[Progress]) -> String {
    let rows: Vec<_> = replays
        .iter()
        .map(|replay| {
            [
                replay.id.to_string(),
                replay.consumer.clone(),
                replay.state.clone(),
                replay.selected.to_string(),
                replay.replayed.to_string(),
                replay.dead_again.to_string(),
                replay.left.to_string(),
                replay.rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate}/s")),
                moment(replay.created_at),
                text::plain(&replay.actor),
                short(&replay.reason, REASON),
            ]
        })
        .collect();
    let header = [
        "REPLAY",
        "CONSUMER",
        "STATE",
        "SELECTED",
        "REPLAYED",
        "DEAD AGAIN",
        "LEFT",
        "RATE",
        "ORDERED",
        "BY",
        "REASON",
    ];
    text::table(header, &rows)
}

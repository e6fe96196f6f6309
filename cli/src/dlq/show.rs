//! `orderly dlq show`: everything about one letter.

mod render;

use std::process::ExitCode;

use anyhow::Context as _;
use consumer::dead_letters::{self, Entry, Filter, Letter};
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    desk::{Desk, Office},
    letter,
};
use crate::output;

/// Letters of the queue that are shown.
const SHOWN: i64 = 10;

const HELP: &str = "\
Headers are shown in their order, each of them, also where two have one name. What is no text is
hex. The payload is shown as JSON where its type is one of the contract and it decodes.";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// The letter's id, from `list --ids`
    id: Uuid,
}

/// A letter with what is around it.
struct Scene {
    letter: Letter,
    /// The one that it waits for.
    before: Option<Uuid>,
    /// How many wait behind it, and the first of them.
    behind: (i64, Vec<Letter>),
    history: Vec<Entry>,
}

pub(super) async fn run(desk: &Desk, args: Args) -> anyhow::Result<ExitCode> {
    let (office, letter) = desk.letter(args.id).await?;
    let scene = scene(office, letter).await.with_context(|| office.away())?;
    if desk.json {
        let mut data = letter::json(&scene.letter, office.consumer());
        let first: Vec<Uuid> = scene.behind.1.iter().map(|letter| letter.id).collect();
        data.insert("waits_for".to_owned(), json!(scene.before));
        data.insert("behind".to_owned(), json!({ "count": scene.behind.0, "first": first }));
        data.insert("history".to_owned(), json!(scene.history));
        desk.print_json(&Value::Object(data))?;
    } else {
        output::data(render::page(&scene, office.consumer()).trim_end())?;
        if let Some(advice) = advice(&scene) {
            output::note(advice);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn scene(office: &Office, letter: Letter) -> Result<Scene, sqlx::Error> {
    let (id, pool) = (letter.id, &office.pool);
    let first = dead_letters::behind(pool, id, SHOWN).await?;
    let itself = Filter { ids: vec![id], ..Filter::default() };
    let groups = dead_letters::groups(pool, &itself).await?;
    // Behind a held one that is the first of its key only those that were read are known.
    let count = groups.first().map_or(first.len() as i64, |group| group.held);
    let history = dead_letters::history(pool, id).await?;
    let mut before = None;
    if letter.state == "held" {
        let key = Filter {
            consumer: Some(letter.consumer.clone()),
            topic: Some(letter.place.0.clone()),
            key: letter.key.clone(),
            ..Filter::default()
        };
        let parked = dead_letters::letters(pool, &key)?.try_next().await?;
        before = parked.map(|letter| letter.id).filter(|before| *before != id);
    }
    Ok(Scene { letter, before, behind: (count, first), history })
}

fn advice(scene: &Scene) -> Option<String> {
    let id = scene.letter.id;
    match (scene.letter.state.as_str(), scene.letter.replay, scene.before) {
        ("parked" | "held", Some(replay), _) => {
            Some(format!("\nA replay is about to process it: orderly dlq status {replay}"))
        }
        ("parked", None, _) => Some(format!(
            "\nWhen its cause is mended:   orderly dlq replay {id} --reason '...'\n\
             To give it up for good:     orderly dlq discard {id} --reason '...'"
        )),
        ("held", None, Some(before)) => Some(format!(
            "\nIt follows by itself when the one before it has been replayed or discarded: orderly dlq show {before}"
        )),
        _ => None,
    }
}

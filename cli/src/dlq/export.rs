//! `orderly dlq export`: letters as NDJSON.

use std::process::ExitCode;

use anyhow::Context as _;
use consumer::dead_letters;
use futures_util::TryStreamExt as _;
use serde_json::Value;

use super::{desk::Desk, letter, select::Filters};
use crate::output;

const HELP: &str = "\
Keys, headers and payloads are in base64, and as text or JSON too where they are that.

  orderly dlq export --consumer billing > letters.ndjson";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    #[command(flatten)]
    filters: Filters,
}

pub(super) async fn run(desk: &Desk, args: Args) -> anyhow::Result<ExitCode> {
    let mut written = 0_u64;
    for (office, filter) in desk.matching(&args.filters) {
        let mut letters = dead_letters::letters(&office.pool, &filter).with_context(|| office.away())?;
        while let Some(letter) = letters.try_next().await.with_context(|| office.away())? {
            if !output::data(Value::Object(letter::json(&letter, office.consumer())).to_string())? {
                return Ok(ExitCode::SUCCESS);
            }
            written += 1;
        }
    }
    output::note(format!("{written} letters written"));
    Ok(ExitCode::SUCCESS)
}

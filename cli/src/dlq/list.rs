//! `orderly dlq list`: what has failed, in groups of one error; or each letter.

use std::process::ExitCode;

use anyhow::Context as _;
use consumer::dead_letters::{self, Group};
use futures_util::TryStreamExt as _;
use serde_json::json;

use super::{
    desk::Desk,
    letter,
    select::Filters,
    text::{self, moment, short},
};
use crate::output;

/// Of an error in a table.
const ERROR: usize = 80;

const HELP: &str = "\
PARKED are the letters that failed, REPLAYING those of them that a replay is about to process, HELD
the records that wait behind them. Errors that differ in numbers and ids only have one FINGERPRINT,
which --fingerprint takes here, in `replay` and in `discard`.";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    #[command(flatten)]
    filters: Filters,
    /// Each letter on a line of its own, with what waits behind it: id, place, state, key, error
    #[arg(long)]
    ids: bool,
}

pub(super) async fn run(desk: &Desk, args: Args) -> anyhow::Result<ExitCode> {
    if args.ids {
        return ids(desk, &args.filters).await;
    }
    let mut groups = Vec::new();
    for (office, filter) in desk.matching(&args.filters) {
        let found = dead_letters::groups(&office.pool, &filter).await.with_context(|| office.away())?;
        groups
            .extend(found.into_iter().map(|group| Group { consumer: office.consumer().to_owned(), ..group }));
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.parked));
    if desk.print_json(&groups)? {
        return Ok(ExitCode::SUCCESS);
    }
    let Some(first) = groups.first() else {
        output::note("No dead letters.");
        return Ok(ExitCode::SUCCESS);
    };
    output::data(render(&groups))?;
    let fingerprint = &first.fingerprint;
    output::note(format!(
        "\n\
         The letters of one error:   orderly dlq list --ids --fingerprint {fingerprint}\n\
         One of them, and its past:  orderly dlq show ID\n\
         When its cause is mended:   orderly dlq replay --fingerprint {fingerprint} --reason '...' --dry-run"
    ));
    Ok(ExitCode::SUCCESS)
}

/// Without end: whoever reads them decides how many.
async fn ids(desk: &Desk, filters: &Filters) -> anyhow::Result<ExitCode> {
    for (office, filter) in desk.matching(filters) {
        let mut letters = dead_letters::letters(&office.pool, &filter).with_context(|| office.away())?;
        while let Some(letter) = letters.try_next().await.with_context(|| office.away())? {
            let line = if desk.json {
                json!({
                    "id": letter.id,
                    "consumer": office.consumer(),
                    "place": letter::place(&letter),
                    "state": letter.state,
                    "key": letter.key.as_deref().map(text::bytes),
                    "error": letter.error,
                    "replay": letter.replay,
                })
                .to_string()
            } else {
                let key = letter.key.as_deref().map_or_else(|| "-".to_owned(), text::bytes);
                let error = letter.error.as_deref().unwrap_or("waits behind another of its key");
                let (id, place, state) = (letter.id, letter::place(&letter), &letter.state);
                format!("{id}  {place}  {state:<6}  {key}  {}", short(error, ERROR))
            };
            if !output::data(line)? {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn render(groups: &[Group]) -> String {
    let rows: Vec<_> = groups
        .iter()
        .map(|group| {
            [
                group.consumer.clone(),
                text::plain(group.event_type.as_deref().unwrap_or("-")),
                group.kind.clone(),
                group.fingerprint.clone(),
                group.parked.to_string(),
                group.replaying.to_string(),
                group.held.to_string(),
                moment(group.first),
                moment(group.last),
                short(&group.error, ERROR),
            ]
        })
        .collect();
    let header =
        ["CONSUMER", "TYPE", "KIND", "FINGERPRINT", "PARKED", "REPLAYING", "HELD", "FIRST", "LAST", "ERROR"];
    text::table(header, &rows)
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn groups_are_a_table() {
        let group = Group {
            consumer: "billing".into(),
            topic: "payment-requests".into(),
            event_type: Some("orderly.billing.v1.PaymentRequested".into()),
            kind: "poison".into(),
            fingerprint: "1a2b3c4d5e6f".into(),
            error: "payload is no\norderly.billing.v1.PaymentRequested".into(),
            parked: 12,
            replaying: 0,
            held: 3,
            first: OffsetDateTime::UNIX_EPOCH,
            last: OffsetDateTime::UNIX_EPOCH,
        };
        let none = Group { event_type: None, parked: 1, ..group.clone() };
        insta::assert_snapshot!(render(&[group, none]), @"
        CONSUMER  TYPE                                 KIND    FINGERPRINT   PARKED  REPLAYING  HELD  FIRST                 LAST                  ERROR
        billing   orderly.billing.v1.PaymentRequested  poison  1a2b3c4d5e6f      12          0     3  1970-01-01T00:00:00Z  1970-01-01T00:00:00Z  payload is no orderly.billing.v1.PaymentRequested
        billing   -                                    poison  1a2b3c4d5e6f       1          0     3  1970-01-01T00:00:00Z  1970-01-01T00:00:00Z  payload is no orderly.billing.v1.PaymentRequested
        ");
    }
}

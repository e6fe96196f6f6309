//! Looks on while consumers carry replays out. They do so whether or not anybody looks.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use consumer::dead_letters::{self, Progress};

use super::{
    desk::Office,
    outcome::{Outcome, so_far},
};
use crate::output;

/// Exit code when Ctrl-C ended the looking, as shells have it.
pub(super) const INTERRUPTED: u8 = 130;

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(250);
/// How long nothing may happen before that is said, unless the rate is lower.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until each replay is done or stopped. None where Ctrl-C came first.
pub(super) async fn until_ended(replays: Vec<(&Office, Progress)>) -> anyhow::Result<Option<Vec<Outcome>>> {
    tokio::select! {
        outcomes = look_on(&replays) => outcomes.map(Some),
        Ok(()) = tokio::signal::ctrl_c() => {
            output::progress("");
            let running: Vec<String> = replays.iter().map(|(_, replay)| replay.id.to_string()).collect();
            output::note("No longer looking; the consumers go on.");
            for id in running {
                output::note(format!("  to look again:  orderly dlq status {id}"));
                output::note(format!("  to stop it:     orderly dlq stop {id} --reason '...'"));
            }
            Ok(None)
        }
    }
}

async fn look_on(replays: &[(&Office, Progress)]) -> anyhow::Result<Vec<Outcome>> {
    // Two records of the slowest are nothing unusual.
    let slowest = replays.iter().filter_map(|(_, replay)| Some(2.0 / replay.rate?)).fold(0.0, f64::max);
    let patience = PATIENCE.max(Duration::try_from_secs_f64(slowest).unwrap_or(Duration::MAX));
    let (mut before, mut since, mut said) = (String::new(), Instant::now(), false);
    loop {
        let mut now = Vec::new();
        for (office, replay) in replays {
            let found = dead_letters::progress(&office.pool, &[replay.id]).await;
            let found = found.with_context(|| {
                format!(
                    "{}; the consumers go on, and `orderly dlq status {}` looks again",
                    office.away(),
                    replay.id
                )
            })?;
            now.extend(found.into_iter().map(|progress| (*office, progress)));
        }
        if now.iter().all(|(_, progress)| progress.state != "running") {
            output::progress("");
            output::flush();
            let mut outcomes = Vec::new();
            for (office, progress) in now {
                outcomes.push(Outcome::of(office, progress).await?);
            }
            return Ok(outcomes);
        }
        let text = so_far(&now.iter().map(|(_, progress)| progress.clone()).collect::<Vec<_>>());
        if text != before {
            output::progress(&text);
            (before, since) = (text, Instant::now());
        } else if since.elapsed() > patience && !said {
            let slow = now.iter().filter(|(_, progress)| progress.state == "running");
            let services: Vec<_> = slow.map(|(office, _)| office.consumer()).collect();
            output::progress("");
            output::note(format!(
                "Nothing happens: does {} work? See `orderly status`.",
                services.join(" and ")
            ));
            said = true;
        }
        tokio::time::sleep(EVERY).await;
    }
}

//! Shows how much waits for an operator. Every member of a group shows the same: the whole group's.

use std::{collections::BTreeSet, time::Duration};

use sqlx::PgPool;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::Metrics;

/// How often it is counted, where nothing is parked here: operators and other members change it too.
const EVERY: Duration = Duration::from_secs(10);
/// How often at most, whatever is parked.
const APART: Duration = Duration::from_secs(1);
/// A count that takes long is made less often: of the time, it takes one part in so many.
const SHARE: u32 = 50;

/// Counts until shutdown.
pub(crate) async fn watch(pool: &PgPool, group: &str, metrics: &Metrics, shutdown: CancellationToken) {
    let watching = async {
        // Topics are shown for as long as this runs: what was dealt with is 0.
        let mut shown: BTreeSet<String> = metrics.assigned().map(|(topic, _)| topic.to_owned()).collect();
        loop {
            let started = Instant::now();
            let counted =
                sqlx::query_as(include_str!("sql/open_letters.sql")).bind(group).fetch_all(pool).await;
            match counted {
                Ok(counts) => show(metrics, &mut shown, counts),
                Err(error) => {
                    debug!(group, %error, "open dead letters not counted");
                    metrics.forget_open();
                }
            }
            let apart = APART.max(started.elapsed() * SHARE);
            sleep(apart).await;
            let _ = timeout(EVERY.saturating_sub(apart), metrics.letters_changed.notified()).await;
        }
    };
    shutdown.run_until_cancelled(watching).await;
}

fn show(metrics: &Metrics, shown: &mut BTreeSet<String>, counts: Vec<(String, i64, i64)>) {
    for topic in shown.iter().filter(|topic| counts.iter().all(|(counted, ..)| counted != *topic)) {
        metrics.show_open(topic, 0, 0);
    }
    for (topic, letters, keys) in counts {
        metrics.show_open(&topic, letters, keys);
        shown.insert(topic);
    }
}

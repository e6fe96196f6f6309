//! Backlogs that are larger than a page, one after another in one session.

use std::time::Duration;

use sqlx::PgPool;

use crate::{
    refusals::{append, event, sequences},
    scene::Scene,
};

const WITHIN: Duration = Duration::from_secs(60);
/// More than a poll returns, and than is sorted by a poll.
const SIZES: [i64; 4] = [5_000, 25_000, 2_001, 30_000];
const KEYS: i64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_backlog_arrives_whole_and_in_order() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let app = PgPool::connect_with(scene.writer()?).await?;
    let (mut sequence, mut relay) = (0, None);
    for size in SIZES {
        let mut events = Vec::new();
        for _ in 0..size {
            sequence += 1;
            events.push(event("alpha", &format!("k{}", sequence % KEYS), sequence, Vec::new()));
        }
        append(&app, events).await?;
        if relay.is_none() {
            relay = Some(scene.relay("relay")?);
        }
        scene.drained(WITHIN).await?;
    }
    let mut records = scene.records()?;
    let records = records.read_to_the_end()?;
    for key in 0..KEYS {
        let expected: Vec<i64> = (1..=sequence).filter(|sequence| sequence % KEYS == key).collect();
        assert_eq!(sequences(records, "alpha", &format!("k{key}")), expected, "k{key}");
    }
    let repeats = records.len() as i64 - sequence;
    assert_eq!(repeats, 0, "nothing was sent twice");
    scene.end()
}

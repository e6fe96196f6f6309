//! Waiting for a condition, with a bound.

use std::time::{Duration, Instant};

/// Asks every 20 ms until the answer is there.
///
/// # Errors
/// When it is not there within `bound`; says `what` was waited for.
pub async fn until<T, F>(what: &str, bound: Duration, mut ask: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        anyhow::ensure!(started.elapsed() < bound, "waited {bound:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

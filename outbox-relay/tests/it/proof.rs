//! The proof by experiment: whatever transactions do and however relays end, what arrives is what was committed.
//!
//! `ORDERLY_PROOF_SEED` repeats the decisions of a run, `ORDERLY_PROOF_SECONDS` makes a longer one.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::sleep;

use crate::{
    relay::Relay,
    scene::Scene,
    writers::{Load, Writers},
};

/// How long it goes on by default.
const SECONDS: u64 = 12;
const PAYLOAD: usize = 200;

#[derive(Debug, Default)]
pub struct Chaos {
    killed: usize,
    stopped: usize,
    frozen: usize,
    cut_off: usize,
    deposed: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_is_what_was_committed_however_relays_end() -> anyhow::Result<()> {
    repeatable(prove).await
}

/// Runs a proof with its seed and for its time, and says how to repeat one that fails.
pub async fn repeatable(prove: impl AsyncFnOnce(u64, Duration) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let seed = number("ORDERLY_PROOF_SEED")?.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let seconds = number("ORDERLY_PROOF_SECONDS")?.unwrap_or(SECONDS);
    let repeat = format!("repeat it with ORDERLY_PROOF_SEED={seed} ORDERLY_PROOF_SECONDS={seconds}");
    prove(seed, Duration::from_secs(seconds)).await.context(repeat)
}

async fn prove(seed: u64, duration: Duration) -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let writers = Writers::start(&scene, Load { seed, quick: 10, slow: 4, payload: PAYLOAD })?;
    let chaos = rage(&scene, &mut StdRng::seed_from_u64(seed), duration).await?;
    let tally = writers.stop().await?;
    let failed = tally.failed();
    anyhow::ensure!(failed.is_empty(), "writers noticed the relays: {:?}", failed.first());
    let last = scene.relay("last")?;
    let verdict = scene.judge(&tally, PAYLOAD).await?;
    anyhow::ensure!(last.terminate().await? == Some(0), "the last relay did not end in good order");
    let epoch = scene.epoch().await?;
    writeln!(
        std::io::stderr(),
        "proof: seed {seed}, {} s, {verdict}, the lease was taken {epoch} times, relays were {chaos:?}",
        duration.as_secs()
    )?;
    scene.end()
}

/// Relays come and go, one at a time or two; none is left.
pub async fn rage(scene: &Scene, random: &mut StdRng, duration: Duration) -> anyhow::Result<Chaos> {
    let (started, mut chaos) = (Instant::now(), Chaos::default());
    let mut relays: Vec<Relay> = Vec::new();
    let mut frozen: Option<Relay> = None;
    for number in 0.. {
        if started.elapsed() > duration {
            break;
        }
        if relays.is_empty() || (relays.len() < 2 && random.random_bool(0.4)) {
            relays.push(scene.relay(&format!("relay-{number}"))?);
        }
        sleep(Duration::from_millis(random.random_range(300..2_000))).await;
        if let Some(thawed) = frozen.take() {
            thawed.signal(Signal::SIGCONT)?;
            relays.push(thawed);
        }
        let victim = random.random_range(0..relays.len());
        match random.random_range(0..100) {
            0..65 => {
                relays.swap_remove(victim).kill()?;
                chaos.killed += 1;
            }
            65..75 => {
                let code = relays.swap_remove(victim).terminate().await?;
                anyhow::ensure!(code == Some(0), "a relay ended with {code:?} on SIGTERM");
                chaos.stopped += 1;
            }
            75..85 => {
                let freezing = relays.swap_remove(victim);
                freezing.signal(Signal::SIGSTOP)?;
                frozen = Some(freezing);
                chaos.frozen += 1;
            }
            _ => {
                scene.cut_off_relays().await?;
                chaos.cut_off += 1;
            }
        }
        // The lease of a dead relay lasts for 3 s, in which nothing could go wrong; and a live one may be deposed.
        if random.random_bool(0.8) {
            scene.free_lease().await?;
            chaos.deposed += 1;
        }
        for relay in &mut relays {
            anyhow::ensure!(relay.runs()?, "a relay has ended by itself; see {}", scene.folder.display());
        }
    }
    Ok(chaos)
}

pub fn number(variable: &str) -> anyhow::Result<Option<u64>> {
    let Ok(text) = std::env::var(variable) else { return Ok(None) };
    Ok(Some(text.parse().with_context(|| format!("{variable} is not a number"))?))
}

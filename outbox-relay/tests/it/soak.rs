//! The long runs, by `make soak`: a steady rate while servers and relays are killed again and again.
//!
//! `ORDERLY_SOAK_KILLS` makes them shorter, `ORDERLY_SOAK_SEED` repeats the moments.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use outbox::UnitOfWork;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sqlx::{PgPool, postgres::PgPoolOptions};
use testkit::{Dedicated, until};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    proof::number,
    scene::{KEYS, Scene},
    writers::{Tally, event},
};

/// Events a second, each in a transaction of its own.
const RATE: u64 = 2_000;
/// Sessions that write, each with keys of its own.
const SESSIONS: u64 = 20;
/// Of a hundred transactions, how many are rolled back.
const ROLLED_BACK: u64 = 5;
const PAYLOAD: usize = 300;
/// How long a kill may take to be recovered from.
const WITHIN: Duration = Duration::from_secs(120);

#[ignore = "takes half an hour: make soak"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_killed_200_times_loses_nothing_at_2000_events_a_second() -> anyhow::Result<()> {
    let (kills, mut random) = (kills(200)?, random()?);
    let scene = Scene::set().await?;
    let mut relay = Some(scene.relay("relay")?);
    let load = Steady::start(&scene)?;
    for kill in 1..=kills {
        sleep(Duration::from_millis(random.random_range(4_000..12_000))).await;
        if let Some(relay) = relay.take() {
            relay.kill()?;
        }
        relay = Some(scene.relay("relay")?);
        if kill % 20 == 0 {
            writeln!(std::io::stderr(), "soak: {kill} of {kills} kills, {} events", load.committed())?;
        }
    }
    let (tally, seconds) = load.stop().await?;
    let verdict = scene.judge(&tally, PAYLOAD).await?;
    let rate = tally.committed() as f64 / seconds;
    writeln!(std::io::stderr(), "soak: the relay was killed {kills} times at {rate:.0} events/s, {verdict}")?;
    scene.end()
}

#[ignore = "takes some minutes: make soak"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_killed_50_times_loses_nothing_under_load() -> anyhow::Result<()> {
    let (kills, mut random) = (kills(50)?, random()?);
    let mut postgres = Dedicated::postgres().await?;
    let scene = Scene::set_on(postgres.with_shared().await?).await?;
    let mut relay = scene.relay("relay")?;
    let load = Steady::start(&scene)?;
    for kill in 1..=kills {
        let before = load.committed();
        until("writers go on", WITHIN, || async { Ok((load.committed() > before + 500).then_some(())) })
            .await?;
        sleep(Duration::from_millis(random.random_range(500..3_000))).await;
        postgres.kill().await?;
        postgres.start().await?;
        if kill % 10 == 0 {
            writeln!(std::io::stderr(), "soak: {kill} of {kills} kills, {} events", load.committed())?;
        }
    }
    let (tally, _) = load.stop().await?;
    let verdict = scene.judge(&tally, PAYLOAD).await?;
    writeln!(std::io::stderr(), "soak: PostgreSQL was killed {kills} times, {verdict}")?;
    anyhow::ensure!(relay.runs()?, "no other process was needed");
    scene.end()
}

#[ignore = "takes some minutes: make soak"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_away_for_two_minutes_and_writers_do_not_notice() -> anyhow::Result<()> {
    let mut kafka = Dedicated::kafka().await?;
    let scene = Scene::set_on(kafka.with_shared().await?).await?;
    let mut relay = scene.relay("relay")?;
    relay.says("publishing").await?;
    let load = Steady::start(&scene)?;
    let rate = async |seconds: u64| {
        let before = load.committed();
        sleep(Duration::from_secs(seconds)).await;
        (load.committed() - before) as f64 / seconds as f64
    };
    let usual = rate(20).await;
    kafka.stop().await?;
    let (mut away, mut memory) = (0.0, relay.memory()?);
    for _ in 0..12 {
        away += rate(10).await / 12.0;
        memory = memory.max(relay.memory()?);
    }
    let waiting = relay.metric("outbox_unpublished_events").await?;
    kafka.start().await?;
    let back = Instant::now();
    scene.drained_but(RATE, WITHIN).await?;
    let drained = back.elapsed();
    memory = memory.max(relay.memory()?);
    let (tally, _) = load.stop().await?;
    let verdict = scene.judge(&tally, PAYLOAD).await?;
    writeln!(
        std::io::stderr(),
        "soak: Kafka was away for 120 s, writers made {usual:.0} events/s before and {away:.0} meanwhile, at least \
         {waiting} waited and were published within {:.1} s, memory of the relay at most {memory} MiB, {verdict}",
        drained.as_secs_f64()
    )?;
    assert_eq!(
        (scene.count("parked").await?, scene.count("hold").await?),
        (0, 0),
        "an outage is nobody's fault"
    );
    assert!(relay.runs()?, "no other process was needed");
    scene.end()
}

/// Writers with a steady rate.
struct Steady {
    tally: Arc<Tally>,
    committed: Arc<AtomicU64>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    started: Instant,
}

impl Steady {
    fn start(scene: &Scene) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new().max_connections(SESSIONS as u32).connect_lazy_with(scene.writer()?);
        let (tally, committed, stop) =
            (Arc::<Tally>::default(), Arc::<AtomicU64>::default(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        for session in 0..SESSIONS {
            let (pool, tally, committed, stop) =
                (pool.clone(), Arc::clone(&tally), Arc::clone(&committed), stop.clone());
            tasks.spawn(async move {
                let begun = RATE * 100 / (100 - ROLLED_BACK);
                let mut pace = interval(Duration::from_secs(1) * SESSIONS as u32 / begun as u32);
                // What was missed while PostgreSQL was away is not made up for.
                pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                for turn in 0_u64.. {
                    tokio::select! {
                        _ = pace.tick() => {}
                        () = stop.cancelled() => break,
                    }
                    match transaction(&pool, session, turn).await {
                        Ok(None) => {}
                        Ok(Some(id)) => {
                            tally.add(id);
                            committed.fetch_add(1, Ordering::Relaxed);
                        }
                        // PostgreSQL is away; whether this was committed nobody knows.
                        Err(_) => drop(timeout(Duration::from_millis(100), stop.cancelled()).await),
                    }
                }
            });
        }
        Ok(Self { tally, committed, tasks, stop, started: Instant::now() })
    }

    fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// What was committed, and in how many seconds.
    async fn stop(mut self) -> anyhow::Result<(Arc<Tally>, f64)> {
        let seconds = self.started.elapsed().as_secs_f64();
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        Ok((self.tally, seconds))
    }
}

/// One event of one of the session's accounts; `None` when it was rolled back.
async fn transaction(pool: &PgPool, session: u64, turn: u64) -> anyhow::Result<Option<Uuid>> {
    let accounts = u64::from(KEYS.unsigned_abs()) / SESSIONS;
    let key = format!("account-{}", 1 + session * accounts + turn % accounts);
    let id = Uuid::now_v7();
    let mut work = UnitOfWork::begin(pool).await?;
    let sequence: i64 = sqlx::query_scalar(
        "with account as (update account set version = version + 1 where key = $1 returning version)
        insert into posting (event_id, topic, key, sequence) select $2, 'alpha', $1, version from account
        returning sequence",
    )
    .bind(&key)
    .bind(id)
    .fetch_one(&mut *work)
    .await?;
    if turn % 100 < ROLLED_BACK {
        return Ok(None);
    }
    work.commit(vec![event(id, "alpha", &key, sequence, PAYLOAD)]).await?;
    Ok(Some(id))
}

fn kills(usual: u64) -> anyhow::Result<u64> {
    Ok(number("ORDERLY_SOAK_KILLS")?.unwrap_or(usual))
}

fn random() -> anyhow::Result<StdRng> {
    let seed = number("ORDERLY_SOAK_SEED")?.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    writeln!(std::io::stderr(), "soak: ORDERLY_SOAK_SEED={seed}")?;
    Ok(StdRng::seed_from_u64(seed))
}

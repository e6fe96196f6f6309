//! The long runs, by `make soak`: workers that are killed again and again, a provider and a PostgreSQL that are away for
//! two minutes, all under load; then `orderly verify`.
//!
//! `ORDERLY_SOAK_KILLS` makes the first shorter, `ORDERLY_SOAK_RATE` is the orders a second that this machine holds.

use std::{fs, io::Write as _, time::Duration};

use anyhow::Context as _;
use cli::credentials::AUDIT;
use rand::RngExt as _;
use sqlx::PgPool;
use testkit::{Dedicated, Part, Platform, Worker};
use tokio::{
    process::Child,
    time::{Instant, sleep},
};

use crate::{
    client::{platform, platform_on},
    home::{Home, Said},
};

/// How long a dependency is away.
const AWAY: Duration = Duration::from_secs(120);
/// How long everything may take to settle afterwards.
const SETTLE: &str = "600s";

#[ignore = "takes a quarter of an hour: make soak"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_killed_200_times_lose_double_and_overtake_nothing() -> anyhow::Result<()> {
    let (kills, rate) = (number("ORDERLY_SOAK_KILLS", 200)?, number("ORDERLY_SOAK_RATE", 100)?);
    let mut platform = platform().await?;
    expect_trouble(&mut platform);
    let home = Home::of(&platform).await?;
    // Beside those that serve calls too, which are left alone: two workers that come and go for each service.
    let mut workers: Vec<(Part, Worker)> = Vec::new();
    for service in Part::SERVICES {
        for _ in 0..2 {
            workers.push((service, platform.worker(service)?));
        }
    }
    for (_, worker) in &workers {
        worker.ready().await?;
    }
    let seconds = kills * 4 + 10;
    let mut load = start_load(&home, rate, seconds)?;
    for kill in 1..=kills {
        let (pause, victim) = {
            let mut random = rand::rng();
            (random.random_range(2_000..6_000), random.random_range(0..workers.len()))
        };
        sleep(Duration::from_millis(pause)).await;
        let (service, worker) = workers.swap_remove(victim);
        worker.kill()?;
        workers.push((service, platform.worker(service)?));
        if kill % 20 == 0 {
            writeln!(std::io::stderr(), "soak: {kill} of {kills} kills")?;
        }
    }
    load.wait().await?;
    let words = verify(&home).await?;
    writeln!(
        std::io::stderr(),
        "soak: workers were killed {kills} times at {rate} orders/s for {seconds} s; {words}"
    )?;
    Ok(())
}

#[ignore = "takes five minutes: make soak"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_away_for_two_minutes_costs_time_and_nothing_else() -> anyhow::Result<()> {
    let rate = number("ORDERLY_SOAK_RATE", 100)?;
    let mut platform = platform().await?;
    expect_trouble(&mut platform);
    let home = Home::of(&platform).await?;
    let billing = platform.billing.superuser().await?;
    let mut load = start_load(&home, rate, AWAY.as_secs() + 20)?;
    sleep(Duration::from_secs(10)).await;
    platform.kill(Part::Provider)?;
    sleep(AWAY).await;
    let (waiting, attempts, tried) = intents(&billing).await?;
    platform.restart(Part::Provider).await?;
    let back = Instant::now();
    load.wait().await?;
    let words = verify(&home).await?;
    let settled = back.elapsed().as_secs_f64();
    let letters: i64 =
        sqlx::query_scalar("select count(*) from inbox.dead_letter").fetch_one(&billing).await?;
    writeln!(
        std::io::stderr(),
        "soak: the provider was away for {} s at {rate} orders/s: {waiting} payments waited as intents, {tried} of \
         them had been tried, {attempts} times in all; {letters} dead letters; settled and verified {settled:.1} s \
         after it was back; billing took at most {} MiB; {words}",
        AWAY.as_secs(),
        peak_mebibytes(&platform, Part::Billing)?,
    )?;
    assert_eq!(letters, 0, "an outage is no record's fault");
    assert!(attempts < waiting, "a breaker stops the calls: {attempts} for {waiting} payments");
    billing.close().await;
    Ok(())
}

#[ignore = "takes five minutes: make soak"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_away_for_two_minutes_costs_time_and_nothing_else() -> anyhow::Result<()> {
    let rate = number("ORDERLY_SOAK_RATE", 100)?;
    let mut postgres = Dedicated::postgres().await?;
    let mut platform = platform_on(postgres.with_shared().await?).await?;
    expect_trouble(&mut platform);
    let home = Home::of(&platform).await?;
    let mut load = start_load(&home, rate, AWAY.as_secs() + 30)?;
    sleep(Duration::from_secs(10)).await;
    postgres.kill().await?;
    sleep(AWAY).await;
    postgres.start().await?;
    let back = Instant::now();
    load.wait().await?;
    let words = verify(&home).await?;
    let settled = back.elapsed().as_secs_f64();
    let (mut letters, mut memory) = (0, Vec::new());
    for (service, database) in platform.databases() {
        let pool = database.superuser().await?;
        letters +=
            sqlx::query_scalar::<_, i64>("select count(*) from inbox.dead_letter").fetch_one(&pool).await?;
        pool.close().await;
        memory.push(format!("{service:?} {}", peak_mebibytes(&platform, service)?));
    }
    writeln!(
        std::io::stderr(),
        "soak: PostgreSQL was away for {} s at {rate} orders/s: {letters} dead letters; settled and verified \
         {settled:.1} s after it was back; at most MiB: {}; {words}",
        AWAY.as_secs(),
        memory.join(", "),
    )?;
    assert_eq!(letters, 0, "an outage is no record's fault");
    Ok(())
}

/// What dies says so, and so do those who needed it.
fn expect_trouble(platform: &mut Platform) {
    for text in [
        "provider",
        "taken over",
        "batch rolled back",
        "kafka does not answer",
        "outcome",
        "lease",
        "mail",
        "another worker",
        "database",
        "replay rolled back",
        "intents",
        "outbox",
        "PostgreSQL",
        "session",
        "deadlines",
        "catalogue",
    ] {
        platform.expect_log(text);
    }
}

fn start_load(home: &Home, rate: u64, seconds: u64) -> anyhow::Result<Child> {
    let (rate, duration) = (rate.to_string(), format!("{seconds}s"));
    let load = [
        "load",
        "--rate",
        &rate,
        "--duration",
        &duration,
        "--decline-ratio",
        "0.1",
        "--out-of-stock-ratio",
        "0.05",
        "--cancel-ratio",
        "0.02",
        "--give-up-after",
        "300s",
        "--settle",
        SETTLE,
        "--seed",
        "1",
    ];
    Ok(home.command(AUDIT, &load).spawn()?)
}

/// Runs `orderly verify`, and wants the promise to hold.
async fn verify(home: &Home) -> anyhow::Result<String> {
    let command = home.command(AUDIT, &["verify", "--settle", SETTLE]).output();
    let Said { code, data, words } = Said::of(command.await?);
    anyhow::ensure!(code == Some(0), "{data}\n{words}");
    Ok(data.lines().last().unwrap_or_default().to_owned())
}

/// Payments that wait for the provider, the calls made for them, and how many of them had any.
async fn intents(billing: &PgPool) -> anyhow::Result<(i64, i64, i64)> {
    let waiting = "select count(*), coalesce(sum(attempts), 0)::bigint, count(*) filter (where attempts > 0)
        from payments where status = 'PENDING'";
    Ok(sqlx::query_as(waiting).fetch_one(billing).await?)
}

fn peak_mebibytes(platform: &Platform, part: Part) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", platform.pid(part)?))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(peak.trim().trim_end_matches(" kB").parse::<u64>()? >> 10)
}

fn number(name: &str, usual: u64) -> anyhow::Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is no number: {text}")),
        Err(_) => Ok(usual),
    }
}

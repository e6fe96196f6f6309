//! `orderly exporter`: Kafka as it looks from outside, for Prometheus. It is a member of no group.
//!
//! Why not one that exists: `kafka_exporter` knows no lag in time and takes groups of Kafka's new protocol (KIP-848) for
//! dead; klag-exporter brings a librdkafka of its own beside the one that is linked here already.

pub mod collect;
mod metrics;
mod oldest;
pub mod snapshot;

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use service::{
    EX_USAGE, ServerArgs,
    admin::{self, Admin, Readiness},
};
use telemetry::Heartbeat;
use tokio::{net::TcpListener, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::output;
use collect::Collector;
use metrics::Metrics;
use snapshot::Snapshot;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Arguments of `orderly exporter`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Kafka bootstrap servers, comma separated
    #[arg(long, env = "ORDERLY_KAFKA", value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    kafka: String,
    /// Put before every topic and group name; not in the labels
    #[arg(long, env = "ORDERLY_PREFIX", default_value = "")]
    prefix: String,
    /// Where /livez, /readyz, /metrics and /version listen
    #[arg(long, env = "ORDERLY_ADMIN", value_name = "ADDRESS", default_value = "127.0.0.1:9108")]
    admin: SocketAddr,
    /// How often Kafka is asked
    #[arg(long, env = "ORDERLY_EXPORTER_INTERVAL", value_name = "DURATION", default_value = "5s", value_parser = interval)]
    interval: Duration,
    #[command(flatten)]
    server: ServerArgs,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|err| err.to_string())?;
    let allowed = Duration::from_millis(100)..=Duration::from_secs(60);
    if allowed.contains(&interval) { Ok(interval) } else { Err("it is 100ms to 60s".to_owned()) }
}

/// Runs `orderly exporter` until SIGTERM or SIGINT.
///
/// # Errors
/// When the admin address is taken.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Err(wrong) = args.server.check_address("--admin", args.admin) {
        output::note(format!("error: {wrong}"));
        return Ok(EX_USAGE.into());
    }
    let guard = telemetry::init("exporter", VERSION, &args.server.log).context("telemetry")?;
    let served = serve(&args).await;
    guard.flush();
    served.map(|()| ExitCode::SUCCESS)
}

async fn serve(args: &Args) -> anyhow::Result<()> {
    let stop = service::shutdown::on_signal()?;
    let listener = TcpListener::bind(args.admin).await;
    let listener = listener.with_context(|| format!("--admin {} cannot be listened on", args.admin))?;
    let registry = telemetry::Metrics::new();
    let metrics = Metrics::register(&registry);
    let readiness = Readiness::not_yet("starting: Kafka has not answered yet");
    let heartbeat = Arc::new(Heartbeat::new("the collector"));
    let told = Admin {
        name: "exporter",
        version: VERSION,
        readiness: readiness.clone(),
        heartbeats: vec![Arc::clone(&heartbeat)],
        metrics: registry,
    };
    let admin = tokio::spawn(admin::serve(listener, told, stop.clone()));
    tracing::info!(admin = %args.admin, kafka = %args.kafka, version = VERSION, "the exporter runs");
    let collector = Collector::new(&args.kafka, &args.prefix)?;
    watch(collector, args.interval, metrics, &readiness, &heartbeat, &stop).await?;
    admin.await??;
    Ok(())
}

/// Asks again and again. Where Kafka does not answer, nothing is known: the gauges go, the process stays.
async fn watch(
    mut collector: Collector,
    every: Duration,
    mut metrics: Metrics,
    readiness: &Readiness,
    heartbeat: &Heartbeat,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answers = None;
    loop {
        tokio::select! { _ = ticks.tick() => {}, () = stop.cancelled() => return Ok(()) }
        heartbeat.beat();
        let started = Instant::now();
        let asked;
        // librdkafka's calls block.
        (collector, asked) = tokio::task::spawn_blocking(move || {
            let asked = collector.collect();
            (collector, asked)
        })
        .await?;
        match asked {
            Ok(snapshot) => {
                metrics.show(&snapshot, SystemTime::now(), started.elapsed());
                readiness.ready(words(&snapshot));
                if answers != Some(true) {
                    tracing::info!("Kafka answers");
                }
                answers = Some(true);
            }
            Err(error) => {
                metrics.forget();
                readiness.set(Err("Kafka does not answer".to_owned()));
                if answers != Some(false) {
                    tracing::warn!(error = format!("{error:#}"), "Kafka does not answer; asking on");
                }
                answers = Some(false);
            }
        }
    }
}

fn words(snapshot: &Snapshot) -> String {
    let lag: i64 = snapshot.positions.iter().map(|position| position.lag).sum();
    format!("ready: {} brokers, {} records not committed", snapshot.brokers, lag)
}

//! `orderly exporter`: Kafka as it looks from outside, for Prometheus. It is a member of no group.
//!
//! Why not one that exists: `kafka_exporter` knows no lag in time and takes groups of Kafka's new protocol (KIP-848) for
//! dead; klag-exporter brings a librdkafka of its own beside the one that is linked here already.

pub mod collect;
mod metrics;
mod oldest;
pub mod snapshot;

use std::{
    collections::BTreeMap,
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
use tokio::{net::TcpListener, sync::oneshot, time::MissedTickBehavior};
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
    let allowed = Duration::from_millis(100)..=Duration::from_secs(30);
    if allowed.contains(&interval) { Ok(interval) } else { Err("it is 100ms to 30s".to_owned()) }
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
    match tokio::time::timeout(args.server.shutdown_deadline, admin).await {
        Ok(ended) => ended??,
        Err(_) => tracing::warn!("a request to the admin port was cut off"),
    }
    Ok(())
}

/// Asks again and again. What Kafka does not answer is not known: its gauges go, the process stays.
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
    let mut told = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => {
                // To close its clients may block.
                std::thread::spawn(move || drop(collector));
                return Ok(());
            }
        }
        heartbeat.beat();
        let started = Instant::now();
        // librdkafka's calls block. A thread of its own, because nobody waits for that at the end of the process.
        let (answer, asked) = oneshot::channel();
        std::thread::spawn(move || {
            let asked = collector.collect();
            // Nobody listens any more at the end of the process.
            let _ = answer.send((collector, asked));
        });
        let asked = tokio::select! {
            asked = asked => asked.context("the collector panicked")?,
            () = stop.cancelled() => return Ok(()),
        };
        collector = asked.0;
        let outcome = match asked.1 {
            Ok(snapshot) => {
                metrics.show(&snapshot, SystemTime::now(), started.elapsed());
                readiness.ready(words(&snapshot));
                Ok(snapshot.missing)
            }
            Err(error) => {
                metrics.forget();
                readiness.set(Err("Kafka does not answer".to_owned()));
                Err(error)
            }
        };
        tell(&outcome, &mut told);
    }
}

/// Logs what has changed since the last time: whether Kafka answers, and what is missing.
fn tell(outcome: &anyhow::Result<BTreeMap<String, String>>, told: &mut Option<Vec<String>>) {
    let now = match outcome {
        Ok(missing) => missing.keys().cloned().collect(),
        Err(_) => vec!["Kafka".to_owned()],
    };
    if told.as_ref() == Some(&now) {
        return;
    }
    match outcome {
        Ok(missing) if missing.is_empty() => tracing::info!("Kafka answers"),
        Ok(missing) => tracing::warn!(?missing, "some of what Kafka was asked is not answered; asking on"),
        Err(error) => tracing::warn!(error = format!("{error:#}"), "Kafka does not answer; asking on"),
    }
    *told = Some(now);
}

fn words(snapshot: &Snapshot) -> String {
    let lag: i64 = snapshot.positions.iter().map(|position| position.lag).sum();
    let mut words = format!("ready: {} brokers, {lag} records not committed", snapshot.brokers);
    for (what, why) in &snapshot.missing {
        words.push_str(&format!("\nmissing: {what}: {why}"));
    }
    words
}

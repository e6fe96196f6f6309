//! The relay as a process: a task per outbox, one producer, an admin server.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use service::admin::{Admin, Readiness};
use telemetry::Heartbeat;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{config::Config, metrics::Metrics, outbox::Outbox, producer::Producer, state::State};

/// Publishes every outbox until SIGTERM or SIGINT; then finishes what is in flight and releases the leases.
pub async fn run(config: &Config, version: &'static str) -> anyhow::Result<()> {
    let sources = config.sources()?;
    let shutdown = service::shutdown::on_signal()?;
    let listener =
        TcpListener::bind(config.admin).await.with_context(|| format!("listen on {}", config.admin))?;
    let producer = Producer::new(config).context("Kafka's client cannot be configured")?;
    let all_metrics = telemetry::Metrics::new();
    let metrics = Metrics::register(&all_metrics);

    let (changed, mut states, mut heartbeats, mut outboxes) =
        (Arc::default(), Vec::new(), Vec::new(), JoinSet::new());
    for source in sources {
        let state = State::new(&source.name, Arc::clone(&changed));
        let heartbeat = Arc::new(Heartbeat::new("an outbox's task"));
        states.push(state.clone());
        heartbeats.push(heartbeat.clone());
        let outbox = Outbox {
            metrics: metrics.outbox(&source.name),
            producer: producer.clone(),
            state,
            heartbeat,
            drain: config.server.shutdown_deadline / 2,
            ring_interval: config.ring_interval,
            shutdown: shutdown.clone(),
            source,
        };
        outboxes.spawn(outbox.run());
    }
    let readiness = Readiness::not_yet("starting");
    let admin = Admin {
        name: "outbox-relay",
        version,
        readiness: readiness.clone(),
        heartbeats,
        metrics: all_metrics,
    };
    // It answers until the very end, so that the last state can be read.
    let ended = CancellationToken::new();
    let admin = tokio::spawn(service::admin::serve(listener, admin, ended.clone()));
    let words = tokio::spawn(tell(readiness, states, changed, shutdown.clone()));
    tracing::info!(admin = %config.admin, kafka = %config.kafka, outboxes = outboxes.len(), version, "the relay runs");

    let failed = tokio::select! {
        () = shutdown.cancelled() => None,
        ended = outboxes.join_next() => ended,
    };
    shutdown.cancel();
    let rest = tokio::time::timeout(config.server.shutdown_deadline, outboxes.join_all()).await;
    ended.cancel();
    let _ = (words.await, admin.await);
    if let Some(ended) = failed {
        ended.context("an outbox's task failed")??;
    }
    for ended in rest.context("the outboxes did not stop before the deadline")? {
        ended?;
    }
    Ok(())
}

/// Asks a running relay whether it is ready.
pub async fn healthcheck(config: &Config) -> anyhow::Result<()> {
    let ask = async {
        let mut stream = TcpStream::connect(config.admin).await?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
        let mut answer = String::new();
        stream.take(64 * 1024).read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer =
        tokio::time::timeout(Duration::from_secs(3), ask).await.context("no answer within 3 s")??;
    let ready = answer.split_whitespace().nth(1) == Some("200");
    anyhow::ensure!(ready, "not ready: {}", answer.rsplit("\r\n").next().unwrap_or_default().trim());
    Ok(())
}

/// Keeps /readyz in words. The relay is ready even where an outbox waits: traffic and restarts would not mend that.
async fn tell(readiness: Readiness, states: Vec<State>, changed: Arc<Notify>, shutdown: CancellationToken) {
    loop {
        readiness.ready(states.iter().map(State::words).collect::<Vec<_>>().join("\n"));
        tokio::select! {
            () = changed.notified() => {}
            () = shutdown.cancelled() => return readiness.set(Err("the relay stops".to_owned())),
        }
    }
}

//! `/metrics` as Prometheus reads it, with every metric of the catalogue.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::Context as _;
use service::admin::{self, Admin, Readiness};
use telemetry::{Definition, Kind, Metrics, catalogue};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

const PROMTOOL: &str = "/usr/bin/promtool";

/// Registers a metric and gives it a value, with labels that have to be escaped.
fn show<const N: usize>(metrics: &Metrics, definition: &Definition<[&'static str; N]>) {
    let values = ["a \"quoted\" # {value}\\"; N];
    match definition.kind {
        Kind::Counter => metrics.counters(definition).with(values).inc(),
        Kind::Gauge => metrics.gauges(definition).with(values).set(0.5),
        Kind::Histogram(_) => metrics.histograms(definition).with(values).observe(0.3),
    }
}

macro_rules! show {
    ($metrics:ident, $($module:ident: $($name:ident)+;)+) => { $($(show(&$metrics, &catalogue::$module::$name);)+)+ };
}

/// Everything but what the process shows of itself.
fn all() -> Metrics {
    let metrics = Metrics::new();
    show!(metrics,
        rpc: CALL_DURATION CALLS_ACTIVE;
        database: CONNECTIONS CONNECTIONS_MAX;
        outbox: UP LEASE_EPOCH PUBLISHED PUBLISH_DURATION OLDEST_UNPUBLISHED UNPUBLISHED IN_FLIGHT OLDEST_TRANSACTION
            REFUSED HELD_KEYS OVERTAKEN_KEYS LANES RING_USED RING_OVERDUE SESSIONS_LOST;
        consumer: ASSIGNED_PARTITIONS BLOCKED_PARTITIONS RECORDS REPEATS DELIVERY_DURATION BATCH_DURATION BATCH_RECORDS
            BATCH_FAILURES DEAD_LETTERS HELD_RECORDS REPLAYED_RECORDS OPEN_DEAD_LETTERS HELD_KEYS;
        dispatch: CALLS CALL_DURATION CALLS_ACTIVE BREAKER_OPEN;
        order: TRANSITIONS REJECTIONS DECISION_DURATION CONFIRMED_AMOUNT OPEN OLDEST_OPEN OVERDUE DEADLINES_PASSED
            HORIZON_AGE WATCHERS;
        inventory: RESERVATIONS ORPHANS;
        billing: TRANSITIONS OWED OLDEST_OWED;
        notification: OUTCOMES PENDING OLDEST_PENDING;
        kafka: BROKERS PARTITIONS UNDER_REPLICATED OLDEST_OFFSET CURRENT_OFFSET GROUP_OFFSET GROUP_LAG
            GROUP_LAG_SECONDS RETENTION_LOSS COLLECTED COLLECT_DURATION;
    );
    metrics
}

/// Headers and body of `/metrics`.
async fn scrape(listener: TcpListener, metrics: Metrics, accept: &str) -> anyhow::Result<(String, String)> {
    let address = listener.local_addr()?;
    let admin = Admin {
        name: "test",
        version: "0.0.0",
        readiness: Readiness::not_yet("a test"),
        heartbeats: Vec::new(),
        metrics,
    };
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(admin::serve(listener, admin, shutdown.clone()));
    let mut connection = TcpStream::connect(address).await?;
    let request =
        format!("GET /metrics HTTP/1.1\r\nhost: test\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    shutdown.cancel();
    serving.await??;
    let (headers, body) = answer.split_once("\r\n\r\n").context("an answer")?;
    Ok((headers.to_owned(), body.to_owned()))
}

async fn listener() -> anyhow::Result<TcpListener> {
    Ok(TcpListener::bind("127.0.0.1:0").await?)
}

#[tokio::test]
async fn promtool_has_nothing_to_say_about_the_text_format() -> anyhow::Result<()> {
    let (headers, text) = scrape(listener().await?, all(), "*/*").await?;
    assert!(headers.contains("content-type: text/plain; version=0.0.4"), "{headers}");
    for metric in catalogue::ALL.iter().flat_map(|section| section.metrics) {
        let is_shown = text.contains(&format!("\n# HELP {} ", metric.name))
            || text.starts_with(&format!("# HELP {} ", metric.name));
        assert!(is_shown, "{} is not shown here", metric.name);
    }
    let mut promtool = Command::new(PROMTOOL)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{PROMTOOL} is missing; `make test` installs what tests need"))?;
    promtool.stdin.take().context("its input")?.write_all(text.as_bytes())?;
    let output = promtool.wait_with_output()?;
    let words =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && words.trim().is_empty(), "{words}");
    Ok(())
}

#[tokio::test]
async fn openmetrics_is_for_whoever_asks_for_it() -> anyhow::Result<()> {
    let accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let (headers, text) = scrape(listener().await?, all(), accept).await?;
    assert!(headers.contains("content-type: application/openmetrics-text; version=1.0.0"), "{headers}");
    assert!(text.ends_with("# EOF\n"));
    Ok(())
}

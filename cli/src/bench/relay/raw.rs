//! Kafka's own `kafka-producer-perf-test`: what the broker takes when no database has to be read.

use std::{
    fmt::Write as _,
    fs,
    process::Stdio,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use tokio::{process::Command, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{
    drain::{self, Drain},
    meter::Meter,
    publisher::Publisher,
    record::Record,
    servers::Servers,
};
use crate::{output, platform::process::Identity};

/// As the relay's producer: what is promised, and what is compressed.
pub(super) const SETTINGS: [&str; 5] =
    ["acks=all", "enable.idempotence=true", "compression.type=lz4", "batch.size=262144", "linger.ms=5"];
/// How many payloads the tool chooses from.
const PAYLOADS: u64 = 10_000;
/// Records of the warm-up.
const WARM_UP: u64 = 300_000;
/// How long it may take to end once all is acknowledged.
const END_WITHIN: Duration = Duration::from_secs(60);

/// Produces as fast as it can, and watches that as the drain of a backlog.
pub(super) async fn measure(servers: &Servers, rows: u64) -> anyhow::Result<Drain> {
    output::note(format!("drain, raw: {rows} records by kafka-producer-perf-test"));
    produce(servers, "raw-events", rows).await
}

/// Lets the broker's virtual machine compile what it is going to need, so that the first who publishes is not the one
/// that pays for it.
pub(super) async fn warm_up(servers: &Servers) -> anyhow::Result<()> {
    output::note(format!("warming the broker up with {WARM_UP} records"));
    produce(servers, "warm-up", WARM_UP).await.map(drop)
}

async fn produce(servers: &Servers, topic: &str, rows: u64) -> anyhow::Result<Drain> {
    let broker = servers.broker()?;
    broker.create(topic).await?;
    let payloads = servers.folder().join("payloads");
    let mut text = String::new();
    for number in 0..PAYLOADS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", Record { number, key: number }.payload());
    }
    fs::write(&payloads, text)?;
    let mut command = Command::new("java");
    command.args(["-Xmx512M", "-server", "-XX:+UseG1GC", "-cp"]).arg(servers.libs().join("*"));
    command.args(["org.apache.kafka.tools.ProducerPerformance", "--bootstrap-server", servers.kafka()]);
    command.args(["--topic", topic, "--throughput", "-1", "--num-records", &rows.to_string()]);
    command.arg("--payload-file").arg(&payloads).arg("--command-property").args(SETTINGS);
    command.current_dir(servers.folder()).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = SystemTime::now();
    let child = command.spawn().context("could not run java")?;
    let process = child.id().and_then(Identity::of);
    let ended = timeout(END_WITHIN + drain::WITHIN, child.wait_with_output());
    let ended = AbortOnDropHandle::new(tokio::spawn(ended));
    let alive = || process.is_some_and(Identity::is_alive);
    let watched = drain::watch(&broker, topic, rows, Meter::new(servers, process)?, alive).await;
    let ended = ended.await?.context("kafka-producer-perf-test did not end")??;
    if !ended.status.success() {
        bail!("kafka-producer-perf-test failed: {}", String::from_utf8_lossy(&ended.stderr).trim());
    }
    let mut drain = Drain::new(Publisher::Raw, rows, started, watched?, &broker.read(topic).await?)?;
    // The tool sends payloads of its file again and again, without keys.
    drain.faults = None;
    drain.tool_events_per_second = rate(&String::from_utf8_lossy(&ended.stdout));
    Ok(drain)
}

/// The rate in the tool's last summary: `500000 records sent, 240732.3 records/sec (68.87 MB/sec), ...`.
fn rate(output: &str) -> Option<f64> {
    let summary = output.lines().rfind(|line| line.contains(" records sent, ") && line.contains("95th"))?;
    summary.split_once(" records sent, ")?.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_summary() {
        let output = "\
250000 records sent, 49990.0 records/sec (14.30 MB/sec), 1.1 ms avg latency, 210.0 ms max latency.
500000 records sent, 240732.306211 records/sec (68.87 MB/sec), 4.31 ms avg latency, 230.00 ms max latency, 3 ms 50th, 9 ms 95th, 21 ms 99th, 25 ms 99.9th.
";
        assert_eq!(rate(output), Some(240_732.306_211));
        assert_eq!(rate("Exception in thread \"main\""), None);
    }
}

//! Under what conditions the figures hold.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Serialize;
use tokio::process::Command;

use super::{
    Args,
    broker::PARTITIONS,
    debezium,
    outbox::SESSIONS,
    raw,
    record::{KEYS, PAYLOAD_BYTES},
    servers::{HEAP, Servers},
};

/// PostgreSQL's settings that matter, as the server says them.
const SHOWN: [&str; 9] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "autovacuum",
];

/// The machine, the software and what was asked for, in words.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Conditions(BTreeMap<&'static str, String>);

impl Conditions {
    pub(super) async fn read(servers: &Servers, args: &Args) -> anyhow::Result<Self> {
        let mut settings = Vec::new();
        for name in SHOWN {
            settings.push(format!("{name}={}", servers.setting(name).await?));
        }
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (cores, cpu) = processors(&file("/proc/cpuinfo"));
        let memory = file("/proc/meminfo");
        let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).and_then(first_number);
        let build = if servers.relay().components().any(|part| part.as_os_str() == "debug") {
            "debug"
        } else {
            "release"
        };
        let debezium = args.peer.iter().any(|peer| peer.profile().is_some());
        let mut all = BTreeMap::from([
            ("command", std::env::args().collect::<Vec<_>>().join(" ")),
            (
                "machine",
                format!(
                    "{cores} × {cpu}, {} GiB, Linux {}; everything on it: servers, publisher, writers, consumer",
                    memory.map_or("?".to_owned(), |kibibytes| (kibibytes >> 20).to_string()),
                    file("/proc/sys/kernel/osrelease").trim(),
                ),
            ),
            (
                "load",
                format!(
                    "{} before (1, 5, 15 minutes)",
                    file("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(", ")
                ),
            ),
            ("postgresql", settings.join(", ")),
            (
                "kafka",
                format!(
                    "{}, one broker, heap {HEAP}, {PARTITIONS} partitions, replication 1, flush left to the system, message.timestamp.type=LogAppendTime",
                    jar_version(servers.libs(), "kafka-clients-"),
                ),
            ),
            ("java", said("java", &["-version"]).await),
            (
                "relay",
                format!(
                    "{}, {build} build",
                    said(&servers.relay().display().to_string(), &["--version"]).await
                ),
            ),
            (
                "events",
                format!(
                    "{PAYLOAD_BYTES} bytes of payload, {KEYS} keys; headers: {} of the relay's, 1 of Debezium's, none of the raw producer's, which has no keys either",
                    super::outbox::headers(args.cloud_events),
                ),
            ),
            (
                "backlog",
                format!(
                    "{} rows, {} in a transaction, by {SESSIONS} sessions",
                    args.rows, args.transaction_rows
                ),
            ),
            ("raw producer", format!("kafka-producer-perf-test: {}", raw::SETTINGS.join(", "))),
        ]);
        if debezium {
            all.insert(
                "debezium",
                format!("{}, Kafka Connect standalone, profiles in bench/debezium", debezium::version()),
            );
        }
        Ok(Self(all))
    }

    /// Each as a name and words.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, words)| (*name, words.as_str()))
    }
}

/// The number of processors of /proc/cpuinfo, and the name of the first.
fn processors(cpuinfo: &str) -> (usize, String) {
    let named = |name: &str| {
        let name = name.to_owned();
        cpuinfo.lines().filter_map(move |line| line.split_once(':').filter(|(key, _)| key.trim() == name))
    };
    let model = named("model name").next().map_or("unknown processor", |(_, model)| model.trim());
    (named("processor").count(), model.to_owned())
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The version in a library's file name.
fn jar_version(libs: &Path, name: &str) -> String {
    let files = fs::read_dir(libs).into_iter().flatten().flatten();
    let version = files.filter_map(|file| {
        let file = file.file_name();
        file.to_str()?.strip_prefix(name)?.strip_suffix(".jar").map(str::to_owned)
    });
    version.max().unwrap_or_else(|| "unknown".to_owned())
}

/// The first line that a program says.
async fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).kill_on_drop(true).output().await;
    let output = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_and_named() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n\nprocessor\t: 1\nmodel name\t: Some CPU @ 2 GHz\n";
        assert_eq!(processors(cpuinfo), (2, "Some CPU @ 2 GHz".to_owned()));
        assert_eq!(processors(""), (0, "unknown processor".to_owned()));
    }
}

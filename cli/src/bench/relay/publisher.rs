//! Who publishes: the relay, or one of its peers.

use std::time::SystemTime;

use anyhow::Context as _;
use serde::Serialize;
use stack::{Launch, Server, StopSignal, port};

use super::{debezium, outbox::Outbox, servers::Servers};
use crate::platform::process::Identity;

/// Who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Publisher {
    /// Orderly's relay; always measured.
    #[value(skip)]
    Relay,
    /// Kafka's own `kafka-producer-perf-test`, which reads no database
    Raw,
    /// Debezium as it comes
    DebeziumDefault,
    /// Debezium with larger batches and a short poll interval
    DebeziumTuned,
    /// Debezium that polls each millisecond
    DebeziumLowLatency,
}

/// A publisher that runs. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Running {
    server: Server,
    pub(super) process: Identity,
    /// When it was started, by the clock that the broker's timestamps come from.
    pub(super) started: SystemTime,
}

impl Publisher {
    /// All but the relay.
    pub(super) const PEERS: [Self; 4] =
        [Self::Raw, Self::DebeziumDefault, Self::DebeziumTuned, Self::DebeziumLowLatency];

    /// As in tables, and in the names of topics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Raw => "raw",
            Self::DebeziumDefault => "debezium-default",
            Self::DebeziumTuned => "debezium-tuned",
            Self::DebeziumLowLatency => "debezium-low-latency",
        }
    }

    /// Debezium's profile, where it is Debezium: connector settings in the form of a properties file.
    pub(super) fn profile(self) -> Option<&'static str> {
        match self {
            Self::Relay | Self::Raw => None,
            Self::DebeziumDefault => Some(include_str!("../../../../bench/debezium/default.properties")),
            Self::DebeziumTuned => Some(include_str!("../../../../bench/debezium/tuned.properties")),
            Self::DebeziumLowLatency => {
                Some(include_str!("../../../../bench/debezium/low-latency.properties"))
            }
        }
    }

    /// Whether its latency is measured: the other profiles of Debezium wait for a poll interval each time.
    pub(super) fn is_live(self) -> bool {
        matches!(self, Self::Relay | Self::DebeziumLowLatency)
    }

    /// Starts it on an outbox.
    pub(super) fn start(self, servers: &Servers, outbox: &Outbox) -> anyhow::Result<Running> {
        let launch = match self.profile() {
            Some(profile) => debezium::launch(servers, outbox, profile)?,
            None => relay(servers, outbox),
        };
        let started = SystemTime::now();
        let server = Server::start(&launch, &servers.log(self.name()))?;
        let process = Identity::of(server.pid()).with_context(|| {
            format!("{} ended at once; see {}", self.name(), servers.log(self.name()).display())
        })?;
        Ok(Running { server, process, started })
    }
}

impl Running {
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        Ok(self.server.stop().await?)
    }
}

fn relay(servers: &Servers, outbox: &Outbox) -> Launch {
    let admin = format!("127.0.0.1:{}", port::free());
    let args = ["run", "--kafka", servers.kafka(), "--prefix", outbox.prefix(), "--admin", &admin];
    Launch {
        name: "the relay",
        executable: servers.relay().to_owned(),
        args: args.map(Into::into).to_vec(),
        // The address holds a password, and everyone on the machine can read arguments.
        env: vec![("ORDERLY_OUTBOX".to_owned(), format!("bench={}", outbox.relay_url()))],
        user: None,
        directory: servers.folder().to_owned(),
        stop_signal: StopSignal::Terminate,
    }
}

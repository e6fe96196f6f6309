//! Kafka from Maven Central: one broker that is its own controller.

mod install;
mod jmx;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};
use uuid::Uuid;

use crate::{Error, Launch, Result, StopSignal, program};

pub use install::{install, is_installed};
pub use jmx::observe;

/// How long the formatter may take.
const FORMAT_WITHIN: Duration = Duration::from_secs(60);
/// How often a broker that starts is asked, and how long one answer may take.
const ASK_EVERY: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(2);
/// The broker's settings beside its addresses and its data. The intervals of consumer groups are a tenth of Kafka's: a
/// second member waits 0.6 s for its partitions instead of 5 s, those of a killed one are idle for 6 s instead of 50 s.
/// A broker that was killed is let in again when its old session ends: after 3 s instead of 9 s.
const SETTINGS: &str = "\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
auto.create.topics.enable=false
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
group.initial.rebalance.delay.ms=0
group.consumer.min.heartbeat.interval.ms=300
group.consumer.heartbeat.interval.ms=500
group.consumer.min.session.timeout.ms=3000
group.consumer.session.timeout.ms=6000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.retention.hours=168
";
/// Everything of interest to standard output, which the log is.
const LOG4J: &str = "\
appender.stdout.type=Console
appender.stdout.name=stdout
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=%d{ISO8601} %-5p %m (%c{1})%n
rootLogger.level=INFO
rootLogger.appenderRef.stdout.ref=stdout
";

/// A Kafka broker.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its clients' port on 127.0.0.1.
    pub port: u16,
    /// Its controller's port on 127.0.0.1.
    pub controller_port: u16,
    /// Its data and its configuration.
    pub data: PathBuf,
    /// Kafka itself; installed there when it is not. Many brokers may share it.
    pub libs: PathBuf,
    /// The heap's size as Java writes it: `512m`.
    pub heap: String,
    /// Lines of `server.properties` beside those of every stack; the last of a name counts.
    pub settings: Vec<(String, String)>,
}

/// Installs Kafka and makes the data where that was not done before, writes the configuration, and says how to start
/// the server.
///
/// # Errors
/// When Java is missing, Kafka cannot be installed, or the data cannot be made.
pub async fn prepare(config: &Config) -> Result<Launch> {
    let java = java()?;
    let absolute = |path: &Path| std::path::absolute(path).map_err(Error::io("find the current folder"));
    let (data, libs) = (absolute(&config.data)?, absolute(&config.libs)?);
    install(&libs).await?;
    fs::create_dir_all(&data).map_err(Error::io(format!("make {}", data.display())))?;
    let (properties, log4j, log_dir) =
        (data.join("server.properties"), data.join("log4j2.properties"), data.join("log"));
    let write = |path: &Path, text: String| {
        fs::write(path, text).map_err(Error::io(format!("write {}", path.display())))
    };
    write(&properties, server_properties(config, &log_dir))?;
    write(&log4j, LOG4J.to_owned())?;
    let mut log4j_flag = std::ffi::OsString::from("-Dlog4j2.configurationFile=");
    log4j_flag.push(&log4j);
    let java_args = [log4j_flag, "-cp".into(), libs.join("*").into()];
    // The formatter writes it last.
    if !log_dir.join("meta.properties").exists() {
        let id = cluster_id();
        let mut command = Command::new(&java);
        command.args(&java_args).args([
            "kafka.tools.StorageTool",
            "format",
            "--ignore-formatted",
            "-t",
            &id,
            "-c",
        ]);
        command.arg(&properties).current_dir(&data);
        program::run("Kafka's formatter", command, FORMAT_WITHIN).await?;
    }
    let heap = format!("-Xmx{}", config.heap).into();
    let more = ["-XX:+ExitOnOutOfMemoryError".into(), heap];
    let main = ["kafka.Kafka".into(), properties.into()];
    Ok(Launch {
        name: "Kafka",
        executable: java,
        args: more.into_iter().chain(java_args).chain(main).collect(),
        env: Vec::new(),
        user: None,
        directory: data,
        stop_signal: StopSignal::Terminate,
    })
}

/// Waits until the broker answers for itself.
///
/// # Errors
/// When it does not in time.
pub async fn ready(bootstrap: &str, within: Duration) -> Result<()> {
    let deadline = Instant::now() + within;
    loop {
        // librdkafka tells of every refused connection, so it is asked once there is something to connect to.
        let source = match tokio::net::TcpStream::connect(bootstrap).await {
            Ok(_) => match metadata(bootstrap.to_owned()).await {
                Ok(()) => return Ok(()),
                Err(source) => source,
            },
            Err(_) => KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerTransportFailure),
        };
        if Instant::now() >= deadline {
            return Err(Error::KafkaSilent { address: bootstrap.to_owned(), within, source });
        }
        sleep(ASK_EVERY).await;
    }
}

async fn metadata(bootstrap: String) -> Result<(), KafkaError> {
    let ask = move || {
        let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
        let metadata = client.fetch_metadata(None, PATIENCE)?;
        match metadata.brokers().len() {
            0 => Err(KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerNotAvailable)),
            _ => Ok(()),
        }
    };
    let failed = |_| Err(KafkaError::Canceled);
    tokio::task::spawn_blocking(ask).await.unwrap_or_else(failed)
}

fn server_properties(config: &Config, log_dir: &Path) -> String {
    let Config { port, controller_port, settings, .. } = config;
    let settings: String = settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    // A properties file takes a backslash for an escape.
    let log_dir = log_dir.to_string_lossy().replace('\\', "\\\\");
    format!(
        "{SETTINGS}\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.quorum.voters=1@127.0.0.1:{controller_port}\n\
         log.dirs={log_dir}\n\
         {settings}"
    )
}

/// A cluster id as Kafka makes them: a random UUID in 22 characters of base64url, never starting with a dash, which
/// the formatter would take for a flag.
fn cluster_id() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // A leading zero bit more keeps the first character within A..=Z and a..=f.
    let bits = Uuid::new_v4().as_u128() >> 1;
    // 128 bits are followed by four of padding in the 22 characters of six bits.
    let digit = |shift: u32| {
        let value = if shift < 4 { bits << (4 - shift) } else { bits >> (shift - 4) };
        char::from(ALPHABET[(value & 0x3f) as usize])
    };
    (0..22).rev().map(|index| digit(index * 6)).collect()
}

/// Java as `JAVA_HOME` or `PATH` names it.
fn java() -> Result<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    home.into_iter()
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join("java"))
        .find(|java| java.is_file())
        .ok_or(Error::Missing { software: "Java", package: "default-jre-headless" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_ids_are_uuids_in_base64() {
        for _ in 0..200 {
            let id = cluster_id();
            assert_eq!(id.len(), 22, "{id}");
            assert!(!id.starts_with('-') && "AQgw".contains(&id[21..]), "{id}");
        }
    }
}

//! Debezium as a peer: its installation, and Kafka Connect with its outbox connector.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use stack::{Launch, StopSignal, port};
use tokio::{process::Command, time::timeout};

use super::{outbox::Outbox, servers::Servers};
use crate::output;

/// What is installed. It lies among the libraries once all of them are there.
const POM: &str = include_str!("../../../../bench/debezium/pom.xml");
const CONNECTOR: &str = include_str!("../../../../bench/debezium/connector.properties");
/// How long the download may take: 28 MB.
const INSTALL_WITHIN: Duration = Duration::from_secs(600);
/// The flags of Kafka's own start scripts, so that nothing is starved.
const JVM: [&str; 8] = [
    "-Xms256M",
    "-Xmx2G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

/// Debezium's version.
pub(super) fn version() -> &'static str {
    let version = POM.split_once("<debezium.version>").and_then(|(_, rest)| rest.split_once('<'));
    version.map_or("unknown", |(version, _)| version)
}

/// Downloads the connector with Maven, unless it is there.
pub(super) async fn install(plugins: &Path) -> anyhow::Result<()> {
    let folder = plugins.join("connector");
    if fs::read_to_string(folder.join("pom.xml")).is_ok_and(|pom| pom == POM) {
        return Ok(());
    }
    output::note(format!(
        "installing Debezium {} from Maven Central (28 MB) in {}",
        version(),
        folder.display()
    ));
    let draft = plugins.with_extension("new");
    for folder in [plugins, &draft].into_iter().filter(|folder| folder.exists()) {
        fs::remove_dir_all(folder).with_context(|| format!("could not delete {}", folder.display()))?;
    }
    let target = draft.join("connector");
    fs::create_dir_all(&target)?;
    fs::write(target.join("pom.xml"), POM)?;
    let mut command = Command::new("mvn");
    command.args(["-q", "-B", "-f"]).arg(target.join("pom.xml")).arg("dependency:copy-dependencies");
    command.arg(format!("-DoutputDirectory={}", target.display()));
    command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    let maven = timeout(INSTALL_WITHIN, command.output()).await.context("Maven was not done in time")?;
    let maven = maven.context("could not run Maven; install Debian's package `maven`")?;
    if !maven.status.success() {
        bail!("Maven could not install Debezium:\n{}", String::from_utf8_lossy(&maven.stdout).trim());
    }
    fs::rename(&draft, plugins).context("could not move Debezium to its place")
}

/// Kafka Connect, standalone, with nothing but the outbox connector.
pub(super) fn launch(servers: &Servers, outbox: &Outbox, profile: &str) -> anyhow::Result<Launch> {
    let write = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
        let path = servers.folder().join(format!("{}-{name}", outbox.database));
        // The connector's has a password.
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(path)
    };
    let offsets = servers.folder().join(format!("{}-offsets", outbox.database));
    let worker = [
        ("bootstrap.servers", servers.kafka().to_owned()),
        ("listeners", format!("HTTP://127.0.0.1:{}", port::free())),
        ("plugin.path", servers.debezium().display().to_string()),
        ("offset.storage.file.filename", offsets.display().to_string()),
        // The record is the payload and nothing else.
        ("key.converter", "org.apache.kafka.connect.storage.StringConverter".to_owned()),
        ("value.converter", "org.apache.kafka.connect.storage.StringConverter".to_owned()),
    ];
    let addresses = [
        ("database.hostname", "127.0.0.1".to_owned()),
        ("database.port", servers.postgres_port().to_string()),
        ("database.user", "postgres".to_owned()),
        ("database.password", servers.password().to_owned()),
        ("database.dbname", outbox.database.clone()),
        ("topic.prefix", outbox.database.clone()),
        ("slot.name", outbox.database.clone()),
        ("publication.name", "bench".to_owned()),
    ];
    let worker = write("worker.properties", &properties("", &worker))?;
    let connector = write("connector.properties", &properties(&format!("{CONNECTOR}{profile}"), &addresses))?;
    let log4j = write("log4j2.properties", LOG4J)?;
    let classes = servers.libs().join("*").display().to_string();
    let log4j = format!("-Dlog4j2.configurationFile={}", log4j.display());
    let main =
        [log4j, "-cp".to_owned(), classes, "org.apache.kafka.connect.cli.ConnectStandalone".to_owned()];
    let args = JVM.into_iter().map(Into::into).chain(main.map(Into::into));
    Ok(Launch {
        name: "Kafka Connect",
        executable: "java".into(),
        args: args.chain([worker.into(), connector.into()]).collect(),
        env: Vec::new(),
        user: None,
        directory: servers.folder().to_owned(),
        stop_signal: StopSignal::Terminate,
    })
}

const LOG4J: &str = "\
appender.stdout.type=Console
appender.stdout.name=stdout
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=%d{ISO8601} %-5p %m (%c{1})%n
rootLogger.level=WARN
rootLogger.appenderRef.stdout.ref=stdout
";

fn properties(first: &str, more: &[(&str, String)]) -> String {
    let mut text = first.to_owned();
    for (name, value) in more {
        // A properties file takes a backslash for an escape. Writing to a String cannot fail.
        let _ = writeln!(text, "{name}={}", value.replace('\\', "\\\\"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_pom() {
        assert!(version().starts_with(|first: char| first.is_ascii_digit()), "{}", version());
    }

    #[test]
    fn properties_are_appended_and_escaped() {
        assert_eq!(properties("a=1\n", &[("b", r"c\d".to_owned())]), "a=1\nb=c\\\\d\n");
    }
}

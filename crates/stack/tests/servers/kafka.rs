//! Kafka as a child process, with its libraries from Maven Central.

use std::{path::Path, time::Duration};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use stack::{
    Server,
    kafka::{self, Config},
    port,
};

use crate::scratch::Scratch;

const WITHIN: Duration = Duration::from_secs(90);

async fn start(config: &Config, log: &Path) -> stack::Result<Server> {
    let mut server = Server::start(&kafka::prepare(config).await?, log)?;
    server.until(kafka::ready(&bootstrap(config), WITHIN)).await?;
    Ok(server)
}

fn bootstrap(config: &Config) -> String {
    format!("127.0.0.1:{}", config.port)
}

fn admin(config: &Config) -> anyhow::Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new().set("bootstrap.servers", bootstrap(config)).create()?)
}

#[tokio::test]
async fn its_topics_outlive_a_kill_and_a_stop() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let log = scratch.path().join("kafka.log");
    let mut config = Config {
        port: port::free(),
        controller_port: port::free(),
        data: scratch.path().join("kafka"),
        // Shared with every run: it is part of the build, not of the data.
        libs: Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka-libs"),
        heap: "256m".to_owned(),
        settings: Vec::new(),
    };
    let mut server = start(&config, &log).await?;
    let topic = NewTopic::new("orders", 3, TopicReplication::Fixed(1));
    for result in admin(&config)?.create_topics([&topic], &AdminOptions::new()).await? {
        assert_eq!(result.map_err(|(name, code)| format!("{name}: {code}")), Ok("orders".to_owned()));
    }
    server.kill().await?;

    // Also at other ports: neither is kept in the data.
    (config.port, config.controller_port) = (port::free(), port::free());
    let server = start(&config, &log).await?;
    let metadata = admin(&config)?.inner().fetch_metadata(Some("orders"), WITHIN)?;
    assert_eq!(metadata.topics().iter().map(|topic| topic.partitions().len()).collect::<Vec<_>>(), [3]);
    server.stop().await?;
    assert!(
        std::fs::read_to_string(&log)?.contains("shut down completed"),
        "no good order in {}",
        log.display()
    );
    Ok(())
}

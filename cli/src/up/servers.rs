//! PostgreSQL and Kafka as supervised processes, unless they already run elsewhere.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::Context as _;
use stack::{kafka, postgres};

use super::{Args, observe::KAFKA_RULES, parts::STOP_WITHIN};
use crate::{
    output,
    platform::{Platform, record::Probe},
    supervisor::{Spec, program::Program},
};

/// Where Kafka's libraries are, for checkouts and tests that share them.
const LIBS: &str = "ORDERLY_KAFKA_LIBS";
/// Enough for a platform on one machine; the process takes 370 MB.
const HEAP: &str = "512m";

/// Where the servers keep their data: outside the data directory where PostgreSQL's user cannot enter it.
pub(super) fn directories(args: &Args) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut directories = BTreeMap::new();
    if args.postgres.is_none() {
        directories.insert("postgres".to_owned(), postgres_data(args)?);
    }
    if args.kafka.is_none() {
        directories.insert("kafka".to_owned(), args.data_dir.path().join("kafka"));
    }
    Ok(directories)
}

/// Makes the data of the servers that are to be started, which the first time installs Kafka.
pub(super) async fn specs(args: &Args, platform: &Platform) -> anyhow::Result<Vec<Spec>> {
    let (postgres, kafka) =
        tokio::try_join!(prepare_postgres(args, platform), prepare_kafka(args, platform))?;
    let spec = |name, port, launch: stack::Launch| {
        let address = format!("127.0.0.1:{port}");
        Spec {
            name,
            stop: launch.stop_signal.into(),
            program: Program::Server(launch),
            probe: Probe::Connect(address.clone()),
            address,
            log: platform.data_dir().log(name),
            stop_within: STOP_WITHIN,
        }
    };
    let postgres = postgres.map(|launch| spec("postgres", args.ports.port_postgres, launch));
    let kafka = kafka.map(|launch| spec("kafka", args.ports.port_kafka, launch));
    Ok(postgres.into_iter().chain(kafka).collect())
}

/// Waits until the servers that were started do more than listen.
pub(super) async fn answer(args: &Args, platform: &Platform, within: Duration) -> anyhow::Result<()> {
    let postgres = async {
        match args.postgres {
            Some(_) => Ok(()),
            None => postgres::ready(&postgres::url(&postgres_config(args, platform)?), within)
                .await
                .context("PostgreSQL is not usable"),
        }
    };
    let kafka = async {
        match args.kafka {
            Some(_) => Ok(()),
            None => kafka::ready(platform.kafka(), within).await.context("Kafka is not usable"),
        }
    };
    tokio::try_join!(postgres, kafka)?;
    Ok(())
}

async fn prepare_postgres(args: &Args, platform: &Platform) -> anyhow::Result<Option<stack::Launch>> {
    if args.postgres.is_some() {
        return Ok(None);
    }
    let launch = postgres::prepare(&postgres_config(args, platform)?).await;
    Ok(Some(launch.context("PostgreSQL cannot be started")?))
}

async fn prepare_kafka(args: &Args, platform: &Platform) -> anyhow::Result<Option<stack::Launch>> {
    if args.kafka.is_some() {
        return Ok(None);
    }
    let dir = args.data_dir.path();
    let libs = std::env::var_os(LIBS).map_or_else(|| dir.join("kafka-libs"), PathBuf::from);
    if !kafka::is_installed(&libs) {
        output::line("installing Kafka from Maven Central (54 MB)");
    }
    let config = kafka::Config {
        port: args.ports.port_kafka,
        controller_port: args.ports.port_kafka_controller,
        data: dir.join("kafka"),
        libs: libs.clone(),
        heap: HEAP.to_owned(),
        settings: Vec::new(),
    };
    let mut launch = kafka::prepare(&config).await.context("Kafka cannot be started")?;
    if let Some(address) = platform.endpoints().observe.as_ref().and_then(|observe| observe.kafka) {
        let observed = kafka::observe(&mut launch, &libs, address, KAFKA_RULES).await;
        observed.context("Kafka's metrics cannot be shown")?;
    }
    Ok(Some(launch))
}

fn postgres_data(args: &Args) -> anyhow::Result<PathBuf> {
    postgres::data_directory(&args.data_dir.path().join("postgres")).context("PostgreSQL cannot be started")
}

fn postgres_config(args: &Args, platform: &Platform) -> anyhow::Result<postgres::Config> {
    Ok(postgres::Config {
        port: args.ports.port_postgres,
        data: postgres_data(args)?,
        superuser_password: platform.superuser_password()?.to_owned(),
        settings: Vec::new(),
    })
}

//! `orderly up --observe`: Prometheus with the rules loaded, exporters for PostgreSQL and Kafka, and Grafana where one is
//! at hand.

mod files;
mod grafana;
mod postgres;
mod prometheus;

use std::{path::PathBuf, time::Duration};

use anyhow::bail;
use nix::sys::signal::Signal;

use super::{Args, parts::STOP_WITHIN};
use crate::{
    platform::{Platform, record::Probe},
    supervisor::{Spec, program::Program},
};

/// How the platform is observed.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Observing")]
pub struct ObserveArgs {
    /// Also start Prometheus with the rules of grafana/, exporters for PostgreSQL and Kafka, and Grafana where one is
    /// installed. Traces need no flag: every process sends them where `OTEL_EXPORTER_OTLP_ENDPOINT` points
    #[arg(long, env = "ORDERLY_OBSERVE")]
    pub(super) observe: bool,
    /// How often Prometheus asks every process
    #[arg(long, env = "ORDERLY_SCRAPE_INTERVAL", value_name = "DURATION", default_value = "5s", value_parser = interval)]
    scrape_interval: Duration,
    /// Folder of a Grafana [default: the one on PATH]
    #[arg(long, env = "ORDERLY_GRAFANA_HOME", value_name = "DIR")]
    grafana_home: Option<PathBuf>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|err| err.to_string())?;
    let allowed = Duration::from_millis(200)..=Duration::from_secs(60);
    if allowed.contains(&interval) { Ok(interval) } else { Err("it is 200ms to 60s".to_owned()) }
}

/// The programs that observe.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    prometheus: PathBuf,
    postgres_exporter: PathBuf,
    grafana: Option<grafana::Grafana>,
}

impl Tools {
    /// Finds them, where the platform is to be observed.
    ///
    /// # Errors
    /// Names what is missing and how to install it.
    pub(super) fn find(args: &ObserveArgs) -> anyhow::Result<Option<Self>> {
        if !args.observe {
            return Ok(None);
        }
        let exporter = on_path("prometheus-postgres-exporter").or_else(|| on_path("postgres_exporter"));
        let (Some(prometheus), Some(postgres_exporter)) = (on_path("prometheus"), exporter) else {
            bail!(
                "--observe needs prometheus and prometheus-postgres-exporter on PATH; install them with `make up OBSERVE=1` or `apt-get install prometheus prometheus-postgres-exporter`"
            );
        };
        let grafana = grafana::find(args.grafana_home.as_deref())?;
        Ok(Some(Self { prometheus, postgres_exporter, grafana }))
    }

    pub(super) fn has_grafana(&self) -> bool {
        self.grafana.is_some()
    }
}

/// What is started beside the platform's own parts; their configuration is written down before.
///
/// # Errors
/// When a file cannot be written, or a role has no password.
pub(super) fn specs(args: &Args, platform: &Platform, tools: &Tools) -> anyhow::Result<Vec<Spec>> {
    let Some(observe) = &platform.endpoints().observe else { return Ok(Vec::new()) };
    let spec = |name, program, address: std::net::SocketAddr, path: &str| Spec {
        name,
        program,
        address: address.to_string(),
        probe: Probe::Http(format!("http://{address}{path}")),
        log: platform.data_dir().log(name),
        stop: Signal::SIGTERM,
        stop_within: STOP_WITHIN,
    };
    let postgres = postgres::program(args, platform, &tools.postgres_exporter, observe.postgres)?;
    let prometheus = prometheus::program(platform, observe, &tools.prometheus, args.observe.scrape_interval)?;
    let mut specs = vec![
        spec("postgres-exporter", postgres, observe.postgres, "/"),
        spec("prometheus", prometheus, observe.prometheus, "/-/ready"),
    ];
    if let (Some(grafana), Some(address)) = (&tools.grafana, observe.grafana) {
        let program: Program = grafana.program(platform, observe.prometheus, address)?;
        specs.push(spec("grafana", program, address, "/api/health"));
    }
    Ok(specs)
}

/// The rules by which the JMX exporter in the broker chooses what it shows.
pub(super) const KAFKA_RULES: &str = include_str!("../../../grafana/kafka-jmx.yml");

/// An executable that the shell would find.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

//! The ports of the platform on 127.0.0.1, and who holds one that is taken.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::bail;
use clap::Args as _;
use tokio::time::sleep;

use crate::{
    output,
    platform::{Endpoints, Observe},
};

/// How long Linux keeps the port of a closed connection, and a moment more.
const TIME_WAIT: Duration = Duration::from_secs(62);
/// How often a port is tried meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Ports on 127.0.0.1.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Ports on 127.0.0.1")]
pub struct Ports {
    /// PostgreSQL
    #[arg(long, env = "ORDERLY_PORT_POSTGRES", default_value_t = 5433, value_name = "PORT")]
    pub port_postgres: u16,
    /// Kafka
    #[arg(long, env = "ORDERLY_PORT_KAFKA", default_value_t = 9092, value_name = "PORT")]
    pub port_kafka: u16,
    /// Kafka's controller, which only Kafka itself connects to
    #[arg(long, env = "ORDERLY_PORT_KAFKA_CONTROLLER", default_value_t = 9093, value_name = "PORT")]
    pub port_kafka_controller: u16,
    /// gRPC of the order service
    #[arg(long, env = "ORDERLY_PORT_ORDER", default_value_t = 50051, value_name = "PORT")]
    pub port_order: u16,
    /// gRPC of the inventory service
    #[arg(long, env = "ORDERLY_PORT_INVENTORY", default_value_t = 50052, value_name = "PORT")]
    pub port_inventory: u16,
    /// gRPC of the billing service
    #[arg(long, env = "ORDERLY_PORT_BILLING", default_value_t = 50053, value_name = "PORT")]
    pub port_billing: u16,
    /// gRPC of the notification service
    #[arg(long, env = "ORDERLY_PORT_NOTIFICATION", default_value_t = 50054, value_name = "PORT")]
    pub port_notification: u16,
    /// Admin port of the order service
    #[arg(long, env = "ORDERLY_PORT_ORDER_ADMIN", default_value_t = 9101, value_name = "PORT")]
    pub port_order_admin: u16,
    /// Admin port of the inventory service
    #[arg(long, env = "ORDERLY_PORT_INVENTORY_ADMIN", default_value_t = 9102, value_name = "PORT")]
    pub port_inventory_admin: u16,
    /// Admin port of the billing service
    #[arg(long, env = "ORDERLY_PORT_BILLING_ADMIN", default_value_t = 9103, value_name = "PORT")]
    pub port_billing_admin: u16,
    /// Admin port of the notification service
    #[arg(long, env = "ORDERLY_PORT_NOTIFICATION_ADMIN", default_value_t = 9104, value_name = "PORT")]
    pub port_notification_admin: u16,
    /// Admin port of the outbox relay
    #[arg(long, env = "ORDERLY_PORT_RELAY_ADMIN", default_value_t = 9106, value_name = "PORT")]
    pub port_relay_admin: u16,
    /// Admin port of the exporter
    #[arg(long, env = "ORDERLY_PORT_EXPORTER", default_value_t = 9108, value_name = "PORT")]
    pub port_exporter: u16,
    /// Simulated payment provider
    #[arg(long, env = "ORDERLY_PORT_PROVIDER", default_value_t = 9201, value_name = "PORT")]
    pub port_provider: u16,
    /// Simulated mail server
    #[arg(long, env = "ORDERLY_PORT_MAIL", default_value_t = 2525, value_name = "PORT")]
    pub port_mail: u16,
    /// Prometheus, with --observe
    #[arg(long, env = "ORDERLY_PORT_PROMETHEUS", default_value_t = 9090, value_name = "PORT")]
    pub port_prometheus: u16,
    /// Exporter of PostgreSQL, with --observe
    #[arg(long, env = "ORDERLY_PORT_POSTGRES_EXPORTER", default_value_t = 9187, value_name = "PORT")]
    pub port_postgres_exporter: u16,
    /// Exporter in the Kafka broker, with --observe
    #[arg(long, env = "ORDERLY_PORT_KAFKA_EXPORTER", default_value_t = 9404, value_name = "PORT")]
    pub port_kafka_exporter: u16,
    /// Grafana, with --observe
    #[arg(long, env = "ORDERLY_PORT_GRAFANA", default_value_t = 3000, value_name = "PORT")]
    pub port_grafana: u16,
}

/// The parts that `up` starts or leaves out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts {
    /// A PostgreSQL of its own.
    pub postgres: bool,
    /// A Kafka of its own.
    pub kafka: bool,
    /// Prometheus and its exporters.
    pub observe: bool,
    /// Grafana.
    pub grafana: bool,
}

/// Flags that give a platform ports of its own, free at this moment: `--port-order`, `40123`, and so on.
#[must_use]
pub fn free_flags() -> Vec<String> {
    let ports = Ports::augment_args(clap::Command::new("ports"));
    let flags = ports.get_arguments().filter_map(clap::Arg::get_long);
    flags.flat_map(|flag| [format!("--{flag}"), stack::port::free().to_string()]).collect()
}

impl Ports {
    /// The endpoints of a platform with these ports; `postgres` and `kafka` where they already run elsewhere.
    #[must_use]
    pub fn endpoints(self, postgres: Option<String>, kafka: Option<String>, prefix: String) -> Endpoints {
        Endpoints {
            postgres: postgres.unwrap_or_else(|| format!("postgres://{}", local(self.port_postgres))),
            kafka: kafka.unwrap_or_else(|| local(self.port_kafka).to_string()),
            prefix,
            order: local(self.port_order),
            inventory: local(self.port_inventory),
            billing: local(self.port_billing),
            notification: local(self.port_notification),
            order_admin: local(self.port_order_admin),
            inventory_admin: local(self.port_inventory_admin),
            billing_admin: local(self.port_billing_admin),
            notification_admin: local(self.port_notification_admin),
            relay_admin: local(self.port_relay_admin),
            exporter: local(self.port_exporter),
            provider: local(self.port_provider),
            mail: local(self.port_mail),
            observe: None,
        }
    }

    /// Where what observes the platform listens; nothing where it is not observed.
    #[must_use]
    pub fn observe(self, parts: Parts) -> Option<Observe> {
        parts.observe.then(|| Observe {
            prometheus: local(self.port_prometheus),
            postgres: local(self.port_postgres_exporter),
            kafka: parts.kafka.then(|| local(self.port_kafka_exporter)),
            grafana: parts.grafana.then(|| local(self.port_grafana)),
        })
    }

    /// Every port that `up` is going to listen on, with its flag.
    pub(super) fn all(self, parts: Parts) -> Vec<(&'static str, u16)> {
        let mut all = vec![
            ("--port-order", self.port_order),
            ("--port-inventory", self.port_inventory),
            ("--port-billing", self.port_billing),
            ("--port-notification", self.port_notification),
            ("--port-order-admin", self.port_order_admin),
            ("--port-inventory-admin", self.port_inventory_admin),
            ("--port-billing-admin", self.port_billing_admin),
            ("--port-notification-admin", self.port_notification_admin),
            ("--port-relay-admin", self.port_relay_admin),
            ("--port-exporter", self.port_exporter),
            ("--port-provider", self.port_provider),
            ("--port-mail", self.port_mail),
        ];
        let optional = [
            (parts.postgres, "--port-postgres", self.port_postgres),
            (parts.kafka, "--port-kafka", self.port_kafka),
            (parts.kafka, "--port-kafka-controller", self.port_kafka_controller),
            (parts.observe, "--port-prometheus", self.port_prometheus),
            (parts.observe, "--port-postgres-exporter", self.port_postgres_exporter),
            (parts.observe && parts.kafka, "--port-kafka-exporter", self.port_kafka_exporter),
            (parts.grafana, "--port-grafana", self.port_grafana),
        ];
        all.extend(
            optional.into_iter().filter(|(is_started, ..)| *is_started).map(|(_, flag, port)| (flag, port)),
        );
        all
    }

    /// Checks that every port is free. One that no process holds any more, which the kernel keeps for a closed
    /// connection that had been given it (TIME-WAIT, 60 s), is waited for.
    ///
    /// # Errors
    /// Names each taken port, the process that holds it, and the flag that chooses another.
    pub async fn check(self, parts: Parts) -> anyhow::Result<()> {
        let ports = self.all(parts);
        twice(&ports)?;
        let deadline = Instant::now() + TIME_WAIT;
        let mut said = false;
        loop {
            let taken: Vec<(&str, u16)> =
                ports.iter().copied().filter(|(_, port)| TcpListener::bind(local(*port)).is_err()).collect();
            if taken.is_empty() {
                return Ok(());
            }
            let holders: Vec<Option<String>> = taken.iter().map(|(_, port)| holder(*port)).collect();
            if Instant::now() >= deadline || holders.iter().any(Option::is_some) {
                let problems = taken.iter().zip(holders).map(|((flag, port), holder)| {
                    let holder = holder.unwrap_or_else(|| "a process that is not shown to you".to_owned());
                    format!("port {port} is held by {holder}; stop that, or choose another port with {flag}")
                });
                bail!("{}", problems.collect::<Vec<_>>().join("\n"));
            }
            if !said {
                let list: Vec<String> = taken.iter().map(|(_, port)| port.to_string()).collect();
                output::line(format!(
                    "waiting for port {}, which closed connections hold for up to a minute",
                    list.join(", ")
                ));
                said = true;
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

fn twice(ports: &[(&str, u16)]) -> anyhow::Result<()> {
    for (index, (flag, port)) in ports.iter().enumerate() {
        if let Some((other, _)) = ports[..index].iter().find(|(_, earlier)| earlier == port) {
            bail!("{flag} and {other} are both {port}; choose another port for one of them");
        }
    }
    Ok(())
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The process that holds a port: `pid 7, java`. `None` where the kernel does not show it to this user.
fn holder(port: u16) -> Option<String> {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|table| inodes(&fs::read_to_string(table).unwrap_or_default(), port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| holds(*pid, &sockets))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("pid {pid}, {}", name.trim()))
}

/// The sockets with this local port in a table of the form of `/proc/net/tcp` (proc(5)). Not only those that listen:
/// an outgoing connection may have been given the port as well.
fn inodes(table: &str, port: u16) -> Vec<String> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
        (local == port).then(|| fields.get(9).copied().map(str::to_owned))?
    };
    table.lines().skip(1).filter_map(row).collect()
}

fn holds(pid: u32, sockets: &[String]) -> bool {
    let target = |path: &Path| fs::read_link(path).ok()?.to_str().map(str::to_owned);
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| target(&file.path())).any(|target| sockets.contains(&target))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        ports: Ports,
    }

    #[tokio::test]
    async fn a_taken_port_names_its_holder_and_the_flag() -> anyhow::Result<()> {
        let held = TcpListener::bind(local(0))?;
        let port = held.local_addr()?.port();
        let line = Line::try_parse_from(["up", "--port-billing", &port.to_string()])?;
        let message = line.ports.check(Parts::default()).await.expect_err("the port is taken").to_string();
        let pid = std::process::id();
        assert!(message.contains(&format!("port {port} is held by pid {pid},")), "{message}");
        assert!(message.contains("choose another port with --port-billing"), "{message}");
        Ok(())
    }

    #[test]
    fn free_ports_are_taken_for_ports() {
        let line = Line::try_parse_from(["up".to_owned()].into_iter().chain(free_flags()));
        let parts = Parts { postgres: true, kafka: true, observe: true, grafana: true };
        let ports = line.expect("flags").ports.all(parts);
        assert!(twice(&ports).is_ok() && ports.iter().all(|(_, port)| *port > 9999), "{ports:?}");
    }

    #[tokio::test]
    async fn one_port_for_two_is_refused() -> anyhow::Result<()> {
        let line = Line::try_parse_from(["up", "--port-order", "50999", "--port-mail", "50999"])?;
        let message =
            line.ports.check(Parts::default()).await.expect_err("the port is given twice").to_string();
        assert!(message.contains("--port-mail and --port-order are both 50999"), "{message}");
        Ok(())
    }
}

//! The parts of the platform that are Orderly's own: how each is migrated and started, and the order of stopping.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::Signal;
use tokio::time::timeout;

use crate::{
    platform::{Database, Platform, record::Probe},
    supervisor::{
        Spec, log,
        program::{Program, command},
    },
};

/// The supervised processes in the order in which they stop: who takes work first, who keeps it safe last. The
/// members of a stage stop together.
pub const STOP_ORDER: [&[&str]; 5] = [
    &["order", "inventory", "billing", "notification", "prometheus", "grafana"],
    &["outbox-relay"],
    &["provider", "mail", "exporter", "postgres-exporter"],
    &["kafka"],
    &["postgres"],
];

/// How long a part may take to finish what it has begun.
pub const STOP_WITHIN: Duration = Duration::from_secs(25);

/// How long one service's migrations may take.
const MIGRATE_WITHIN: Duration = Duration::from_secs(120);

/// Checks that every executable is there.
///
/// # Errors
/// Names those that are missing and how to build them.
pub fn check(bin_dir: &Path) -> anyhow::Result<()> {
    let names = ["orderly", "outbox-relay"].into_iter().chain(Database::ALL.map(Database::service));
    let missing: Vec<&str> = names.filter(|name| !bin_dir.join(name).is_file()).collect();
    ensure!(
        missing.is_empty(),
        "{} has no {}; build them with `cargo build --workspace`, or name their folder with --bin-dir",
        bin_dir.display(),
        missing.join(", ")
    );
    Ok(())
}

/// Brings a service's database up to date, as its owner.
///
/// # Errors
/// When the migration fails or takes too long; the error quotes the end of its log.
pub async fn migrate(platform: &Platform, bin_dir: &Path, database: Database) -> anyhow::Result<()> {
    let name = format!("migrate-{}", database.service());
    let path = platform.data_dir().log(&name);
    let output = log::open(&path, true)?;
    let env = [("ORDERLY_DATABASE_URL".to_owned(), platform.owner_url(database)?)];
    let mut command = command(&bin_dir.join(database.service()), &env);
    command.arg("migrate").stdout(output.try_clone()?).stderr(output).process_group(0).kill_on_drop(true);
    let status = timeout(MIGRATE_WITHIN, command.status())
        .await
        .with_context(|| format!("{name} took longer than {} s", MIGRATE_WITHIN.as_secs()))??;
    if !status.success() {
        let tail = log::tail(&path, 10);
        bail!("{name} ended with {status}; the end of {}:\n{tail}", path.display());
    }
    Ok(())
}

/// The simulators, the services, the relay and the exporter.
///
/// # Errors
/// When a role has no password.
pub fn specs(platform: &Platform, bin_dir: &Path) -> anyhow::Result<Vec<Spec>> {
    let endpoints = platform.endpoints();
    let simulate = |name: &'static str, address: std::net::SocketAddr, ledger: PathBuf| {
        let args = ["simulate", name, "--listen", &address.to_string(), "--ledger"].map(OsString::from);
        let args = args.into_iter().chain([ledger.into_os_string()]).collect();
        let program = Program::Command { executable: bin_dir.join("orderly"), args, env: Vec::new() };
        spec(platform, name, program, address.to_string(), Probe::Connect(address.to_string()))
    };
    let service = |database: Database, listen: std::net::SocketAddr, admin, more: &[(&str, String)]| {
        let mut env = vec![
            ("ORDERLY_LISTEN", listen.to_string()),
            ("ORDERLY_DATABASE_URL", platform.app_url(database)?),
        ];
        env.extend_from_slice(more);
        let name = database.service();
        let program = own(platform, bin_dir, name, admin, env);
        anyhow::Ok(spec(platform, name, program, listen.to_string(), Probe::Readyz(admin)))
    };
    let provider_url = ("ORDERLY_PROVIDER_URL", format!("http://{}", endpoints.provider));
    let smtp = ("ORDERLY_SMTP", endpoints.mail.to_string());
    // Customers of a platform on this machine are on this machine.
    let webhooks = ("ORDERLY_WEBHOOK_ALLOW_PRIVATE", "true".to_owned());
    let outboxes: Vec<String> = Database::ALL
        .into_iter()
        .map(|database| Ok(format!("{}={}", database.service(), platform.relay_url(database)?)))
        .collect::<anyhow::Result<_>>()?;
    let (address, subcommand) = (endpoints.exporter, vec!["exporter".into()]);
    let exporter = match own(platform, bin_dir, "orderly", address, Vec::new()) {
        Program::Command { executable, env, .. } => Program::Command { executable, args: subcommand, env },
        server => server,
    };
    let relay_env = vec![("ORDERLY_OUTBOX", outboxes.join(","))];
    let relay = own(platform, bin_dir, "outbox-relay", endpoints.relay_admin, relay_env);
    Ok(vec![
        simulate("provider", endpoints.provider, platform.provider_ledger()),
        simulate("mail", endpoints.mail, platform.mail_ledger()),
        service(Database::Order, endpoints.order, endpoints.order_admin, &[])?,
        service(Database::Inventory, endpoints.inventory, endpoints.inventory_admin, &[])?,
        service(Database::Billing, endpoints.billing, endpoints.billing_admin, &[provider_url])?,
        service(
            Database::Notification,
            endpoints.notification,
            endpoints.notification_admin,
            &[smtp, webhooks],
        )?,
        spec(
            platform,
            "outbox-relay",
            relay,
            endpoints.relay_admin.to_string(),
            Probe::Readyz(endpoints.relay_admin),
        ),
        spec(platform, "exporter", exporter, address.to_string(), Probe::Readyz(address)),
    ])
}

/// A program that takes its configuration, secrets included, from the environment.
fn own(
    platform: &Platform,
    bin_dir: &Path,
    name: &str,
    admin: std::net::SocketAddr,
    more: Vec<(&str, String)>,
) -> Program {
    let shared = [
        ("ORDERLY_ADMIN", admin.to_string()),
        ("ORDERLY_KAFKA", platform.kafka().to_owned()),
        ("ORDERLY_PREFIX", platform.prefix().to_owned()),
    ];
    let env = shared.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect();
    Program::Command { executable: bin_dir.join(name), args: Vec::new(), env }
}

fn spec(platform: &Platform, name: &'static str, program: Program, address: String, probe: Probe) -> Spec {
    Spec {
        name,
        program,
        address,
        probe,
        log: platform.data_dir().log(name),
        stop: Signal::SIGTERM,
        stop_within: STOP_WITHIN,
    }
}

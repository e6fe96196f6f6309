//! `orderly up`: the whole platform on this machine, until Ctrl-C.
//!
//! One supervisor a data directory. It checks the ports, starts PostgreSQL and Kafka, creates roles, databases and
//! topics, migrates, starts every part, loads the demo catalogue, and says `ready`. A signal at any moment stops
//! everything in order.

pub mod detach;
pub mod down;
pub mod leftovers;
pub mod lock;
mod observe;
pub mod parts;
pub mod ports;
mod servers;
pub(crate) mod signals;
mod summary;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use reqwest::Url;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{
    catalogue,
    credentials::{Credentials, SUPERUSER},
    output,
    platform::{
        DataDir, Database, Endpoints, Platform,
        process::Identity,
        record::{Phase, UpRecord},
        without_role,
    },
    provision::{self, Superuser},
    supervisor::Supervisor,
    topics,
};
use observe::{ObserveArgs, Tools};
use ports::{Parts, Ports};

/// How long PostgreSQL and Kafka may take to start; the first start creates their data.
const SERVERS_WITHIN: Duration = Duration::from_secs(120);
/// How long a part may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Arguments of `orderly up`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    data_dir: DataDir,
    /// Return once everything is ready; `orderly down` stops it
    #[arg(long)]
    detach: bool,
    /// Use a PostgreSQL that already runs, as this superuser: postgres://ROLE:PASSWORD@HOST:PORT
    #[arg(long, env = "ORDERLY_POSTGRES", value_name = "URL", hide_env_values = true)]
    postgres: Option<Url>,
    /// Use a Kafka that already runs
    #[arg(long, env = "ORDERLY_KAFKA", value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Put before every topic and group name
    #[arg(long, env = "ORDERLY_PREFIX", default_value = "")]
    prefix: String,
    /// Folder of the services' executables [default: that of this one]
    #[arg(long, env = "ORDERLY_BIN_DIR", value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    #[command(flatten)]
    observe: ObserveArgs,
    #[command(flatten)]
    ports: Ports,
    /// Start without the demo catalogue
    #[arg(long)]
    no_catalogue: bool,
    /// Leave the terminal: what `--detach` starts
    #[arg(long, hide = true)]
    background: bool,
}

/// Runs `orderly up`.
///
/// # Errors
/// When the platform could not be started; what had been started is stopped by then.
pub async fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    args.data_dir.data_dir = std::path::absolute(args.data_dir.path())?;
    if args.detach && !args.background {
        return detach::run(&args).await;
    }
    if args.background {
        // It fails only for a process that leads a group already, and then there is no terminal to leave.
        let _ = nix::unistd::setsid();
    }
    let (stop, hurry) = signals::watch()?;
    let Some(_lock) = lock::acquire(&args.data_dir)? else { return Err(taken(&args.data_dir)) };
    tokio::select! {
        stopped = leftovers::stop(&args.data_dir) => stopped?,
        () = hurry.cancelled() => return Ok(ExitCode::SUCCESS),
    }
    let Plan { endpoints, bin_dir, tools, parts } = check(&args)?;
    tokio::select! {
        free = args.ports.check(parts) => free?,
        () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
    }
    let credentials = Credentials::ensure(
        &args.data_dir.credentials(),
        provision::roles().iter().map(String::as_str).chain([SUPERUSER]),
    )?;
    let platform = Platform::new(args.data_dir.clone(), endpoints, credentials);
    let record = UpRecord {
        supervisor: Identity::current().context("/proc is not mounted")?,
        phase: Phase::Starting,
        endpoints: platform.endpoints().clone(),
        directories: servers::directories(&args)?,
        processes: Vec::new(),
    };
    let mut supervisor = Supervisor::new(args.data_dir.clone(), record, hurry)?;
    let result = supervise(&args, &platform, &bin_dir, tools.as_ref(), &mut supervisor, &stop).await;
    if stop.is_cancelled() {
        output::line("stopping; Ctrl-C again kills what is left");
    }
    supervisor.phase(Phase::Stopping);
    for stage in parts::STOP_ORDER {
        supervisor.stop(stage).await;
    }
    supervisor.phase(Phase::Stopped);
    result?;
    output::line("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Starts everything and waits for a signal. A signal during the start ends it early and is no error.
async fn supervise(
    args: &Args,
    platform: &Platform,
    bin_dir: &std::path::Path,
    tools: Option<&Tools>,
    supervisor: &mut Supervisor,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        started = start(args, platform, bin_dir, tools, supervisor) => started?,
    }
    supervisor.phase(Phase::Ready);
    output::line(summary::render(platform.endpoints(), platform.data_dir()));
    output::line("ready");
    stop.cancelled().await;
    Ok(())
}

async fn start(
    args: &Args,
    platform: &Platform,
    bin_dir: &std::path::Path,
    tools: Option<&Tools>,
    supervisor: &mut Supervisor,
) -> anyhow::Result<()> {
    let specs = servers::specs(args, platform).await?;
    let names: Vec<&str> = specs.iter().map(|spec| spec.name).collect();
    if !names.is_empty() {
        output::line(format!("starting {}", names.join(" and ")));
    }
    for spec in specs {
        supervisor.keep(spec);
    }
    try_join_all(names.iter().map(|name| supervisor.ready(name, SERVERS_WITHIN))).await?;
    servers::answer(args, platform, SERVERS_WITHIN).await?;
    output::line("creating roles, databases and topics");
    let prepare = async { tokio::try_join!(provision(args, platform), create_topics(platform)) };
    prepare.await?;
    output::line("migrating");
    try_join_all(Database::ALL.map(|database| parts::migrate(platform, bin_dir, database))).await?;
    let mut specs = parts::specs(platform, bin_dir)?;
    if let Some(tools) = tools {
        specs.extend(observe::specs(args, platform, tools)?);
    }
    let names: Vec<&str> = specs.iter().map(|spec| spec.name).collect();
    output::line(format!("starting {}", names.join(", ")));
    for spec in specs {
        supervisor.keep(spec);
    }
    try_join_all(names.iter().map(|name| supervisor.ready(name, READY_WITHIN))).await?;
    if !args.no_catalogue {
        output::line("loading the demo catalogue");
        load_catalogue(platform).await?;
    }
    Ok(())
}

async fn load_catalogue(platform: &Platform) -> anyhow::Result<()> {
    let orders = PgPool::connect_lazy(&platform.audit_url(Database::Order)?)?;
    let loaded = catalogue::load(&platform.inventory_grpc(), &orders, &catalogue::offers()).await;
    orders.close().await;
    loaded.context("the demo catalogue could not be loaded; `--no-catalogue` starts without it")
}

async fn provision(args: &Args, platform: &Platform) -> anyhow::Result<()> {
    let server = platform.endpoints().postgres.as_str();
    let (role, password) = match &args.postgres {
        Some(url) => (url.username(), url.password().unwrap_or_default()),
        None => (SUPERUSER, platform.superuser_password()?),
    };
    provision::apply(Superuser { server, role, password }, platform.credentials()?).await
}

async fn create_topics(platform: &Platform) -> anyhow::Result<()> {
    let shape = topics::Shape { partitions: 12, replication: 1 };
    topics::apply(platform.kafka(), platform.prefix(), shape).await?;
    Ok(())
}

/// What is going to be started, and from where.
struct Plan {
    endpoints: Endpoints,
    bin_dir: PathBuf,
    tools: Option<Tools>,
    parts: Parts,
}

/// What can be found wrong before anything is started.
fn check(args: &Args) -> anyhow::Result<Plan> {
    if let Some(url) = &args.postgres {
        let usable = url.has_host() && !url.username().is_empty();
        anyhow::ensure!(usable, "--postgres must name a host and a role: postgres://ROLE:PASSWORD@HOST:PORT");
    }
    let bin_dir = match &args.bin_dir {
        Some(dir) => std::path::absolute(dir)?,
        None => std::env::current_exe()?.parent().map(PathBuf::from).unwrap_or_default(),
    };
    parts::check(&bin_dir)?;
    let tools = Tools::find(&args.observe)?;
    let parts = Parts {
        postgres: args.postgres.is_none(),
        kafka: args.kafka.is_none(),
        observe: tools.is_some(),
        grafana: tools.as_ref().is_some_and(Tools::has_grafana),
    };
    let postgres = args.postgres.as_ref().map(without_role);
    let endpoints = args.ports.endpoints(postgres, args.kafka.clone(), args.prefix.clone());
    let endpoints = Endpoints { observe: args.ports.observe(parts), ..endpoints };
    Ok(Plan { endpoints, bin_dir, tools, parts })
}

/// The error of a second `up` on one data directory.
fn taken(data_dir: &DataDir) -> anyhow::Error {
    let dir = data_dir.path().display();
    match lock::holder(data_dir) {
        Some(pid) => anyhow::anyhow!(
            "another `orderly up` (pid {pid}) runs in {dir}; stop it with `orderly down`, or use another --data-dir"
        ),
        None => anyhow::anyhow!("another `orderly up` is starting in {dir}"),
    }
}

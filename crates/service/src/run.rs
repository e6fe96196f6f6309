//! From the command line to a clean exit.

use std::{
    ffi::OsString,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _};
use outbox::Roles;
use sqlx::PgPool;
use telemetry::{Heartbeat, Metrics};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tracing::{error, info, warn};

use crate::{
    App,
    admin::{self, Admin, Readiness},
    config::{Addresses as _, DatabaseArgs, ServerArgs},
    database, grpc, shutdown,
};

/// Exit code of a wrong command line or configuration (sysexits.h).
pub const EX_USAGE: u8 = 64;

/// How often the database is probed.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

#[derive(clap::Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli<C: clap::Args> {
    #[command(subcommand)]
    command: Option<Command<C>>,
    #[command(flatten)]
    options: Options<C>,
}

#[derive(clap::Subcommand)]
enum Command<C: clap::Args> {
    /// Serve gRPC only.
    Serve(Options<C>),
    /// Consume and dispatch only.
    Work(Options<C>),
    /// Create or upgrade the database, as its owner, and exit.
    Migrate(Options<C>),
    /// Check the configuration, print it without its secrets, and exit (64 when it is wrong).
    CheckConfig(Options<C>),
    /// Ask the running service whether it is ready to serve; exit 0 when it is, 1 otherwise.
    Healthcheck(Options<C>),
}

#[derive(Clone, Debug, clap::Args)]
struct Options<C: clap::Args> {
    #[command(flatten)]
    own: C,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Which parts of a service run in this process.
#[derive(Clone, Copy)]
struct Parts {
    serve: bool,
    work: bool,
}

/// The whole of a service's `main`. `descriptors` is what gRPC reflection tells.
pub fn main<A: App>(version: &'static str, descriptors: &'static [u8]) -> ExitCode
where
    A::Config: std::fmt::Debug,
{
    let cli = match parse::<A>(version, std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { EX_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let options = match &cli.command {
        None => &cli.options,
        Some(
            Command::Serve(options)
            | Command::Work(options)
            | Command::Migrate(options)
            | Command::CheckConfig(options)
            | Command::Healthcheck(options),
        ) => options,
    };
    if let Err(wrong) = check(options) {
        return complain(&wrong, EX_USAGE);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.to_string(), 1),
    };
    let _entered = runtime.enter();
    let guard = match telemetry::init(A::NAME, version, &options.server.log) {
        Ok(guard) => guard,
        Err(error) => return complain(&format!("{:#}", anyhow::Error::from(error)), EX_USAGE),
    };
    let (parts, options) = match cli.command {
        None => (Parts { serve: true, work: true }, cli.options),
        Some(Command::Serve(options)) => (Parts { serve: true, work: false }, options),
        Some(Command::Work(options)) => (Parts { serve: false, work: true }, options),
        Some(Command::Migrate(options)) => return finish(runtime.block_on(migrate::<A>(&options))),
        Some(Command::CheckConfig(options)) => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stdout(), "{options:#?}");
            return ExitCode::SUCCESS;
        }
        Some(Command::Healthcheck(options)) => return finish(runtime.block_on(healthcheck::<A>(&options))),
    };
    let outcome = runtime.block_on(run::<A>(parts, &options, version, descriptors));
    let code = finish(outcome);
    guard.flush();
    // What is still blocked must not keep the process; everything that matters has been drained.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

/// The command line of a service, as `--help` and the documentation show it.
pub fn command<A: App>() -> clap::Command {
    Cli::<A::Config>::command().name(A::NAME)
}

fn parse<A: App>(
    version: &'static str,
    args: impl Iterator<Item = OsString>,
) -> Result<Cli<A::Config>, clap::Error> {
    let matches = command::<A>().version(version).try_get_matches_from(args)?;
    Cli::from_arg_matches(&matches)
}

fn check<C: clap::Args + crate::Addresses>(options: &Options<C>) -> Result<(), String> {
    options.server.check_address("--listen", options.own.listen())?;
    options.server.check_address("--admin", options.own.admin())?;
    options.own.check()
}

fn complain(message: &str, code: u8) -> ExitCode {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "error: {message}");
    code.into()
}

fn finish(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = format!("{error:#}"), "failed");
            ExitCode::FAILURE
        }
    }
}

async fn migrate<A: App>(options: &Options<A::Config>) -> anyhow::Result<()> {
    let pool = database::pool(&options.database, A::NAME)?;
    let app = format!("orderly_{}_app", A::NAME);
    let roles =
        Roles { app: &app, relay: "orderly_relay", audit: "orderly_audit", operator: "orderly_operator" };
    A::migrate(&pool, &roles).await.context("migrate")?;
    info!("database is up to date");
    Ok(())
}

async fn healthcheck<A: App>(options: &Options<A::Config>) -> anyhow::Result<()> {
    let ask = async {
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", options.own.listen()))?
            .connect()
            .await?;
        let request = HealthCheckRequest { service: A::GRPC_SERVICE.to_owned() };
        anyhow::Ok(HealthClient::new(channel).check(request).await?.into_inner().status())
    };
    let status =
        tokio::time::timeout(Duration::from_secs(3), ask).await.context("no answer within 3 s")??;
    anyhow::ensure!(status == ServingStatus::Serving, "{} is {}", A::GRPC_SERVICE, status.as_str_name());
    Ok(())
}

async fn run<A: App>(
    parts: Parts,
    options: &Options<A::Config>,
    version: &'static str,
    descriptors: &'static [u8],
) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let metrics = Metrics::new();
    let pool = database::pool(&options.database, A::NAME)?;
    database::show(&pool, &metrics);
    let app = Arc::new(A::build(&options.own, pool.clone(), &metrics, stop.clone())?);
    let heartbeat = Arc::new(Heartbeat::new("worker"));
    let readiness = Readiness::not_yet("starting: waits for its database");
    let health = grpc::Health::new(A::GRPC_SERVICE).await;

    // Every port is bound before anything slow, so that a wrong address is known at once.
    let admin_listener = bind("--admin", options.own.admin()).await?;
    let grpc_listener = if parts.serve { Some(bind("--listen", options.own.listen()).await?) } else { None };
    info!(version, admin = %options.own.admin(), listen = parts.serve.then(|| options.own.listen().to_string()), "started");

    // Calls are refused until the database has all migrations; afterwards they find out for themselves.
    let admitted = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    // The admin port outlives the drain, so that it can be watched.
    let closed = CancellationToken::new();
    let told = Admin {
        name: A::NAME,
        version,
        readiness: readiness.clone(),
        heartbeats: if parts.work { vec![Arc::clone(&heartbeat)] } else { Vec::new() },
        metrics: metrics.clone(),
    };
    let admin_port = tokio::spawn(admin::serve(admin_listener, told, closed.clone()));
    if let Some(listener) = grpc_listener {
        let service = grpc::Service {
            routes: grpc::gated(Arc::clone(&app).routes(), Arc::clone(&admitted)),
            health: health.clone(),
            descriptors,
            objectives: A::OBJECTIVES,
        };
        tasks.spawn(grpc::serve(listener, service, metrics.clone(), stop.clone()));
    }
    if wait_for_database::<A>(&pool, &heartbeat, &stop).await? {
        admitted.store(true, Ordering::Release);
        readiness.set(Ok(()));
        health.set(true).await;
        info!("ready");
        tokio::spawn(watch_database(pool.clone(), readiness.clone(), health.clone(), stop.clone()));
        if parts.work {
            let (app, heartbeat, stop) = (Arc::clone(&app), Arc::clone(&heartbeat), stop.clone());
            tasks.spawn(async move { app.work(heartbeat, stop).await.context("worker") });
        }
    }
    let ended = tokio::select! {
        Some(ended) = tasks.join_next() => Some(ended),
        () = stop.cancelled() => None,
    };
    readiness.set(Err("shutting down".into()));
    health.set(false).await;
    stop.cancel();
    let drained = tokio::time::timeout(options.server.shutdown_deadline, drain(ended, tasks)).await;
    closed.cancel();
    let _ = tokio::time::timeout(Duration::from_secs(1), admin_port).await;
    pool.close().await;
    match drained {
        Ok(outcome) => outcome.inspect(|()| info!("drained")),
        Err(_) => anyhow::bail!(
            "not drained within {:?}: calls or batches were cut off",
            options.server.shutdown_deadline
        ),
    }
}

async fn bind(flag: &str, address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{flag} {address} cannot be listened on"))
}

async fn wait_for_database<A: App>(
    pool: &PgPool,
    heartbeat: &Heartbeat,
    stop: &CancellationToken,
) -> anyhow::Result<bool> {
    let beating = async {
        loop {
            heartbeat.beat();
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    };
    tokio::select! {
        waited = database::wait(pool, || A::pending(pool), stop) => waited,
        () = beating => unreachable!("beats for ever"),
    }
}

/// Keeps health and readiness true to the database.
async fn watch_database(pool: PgPool, readiness: Readiness, health: grpc::Health, stop: CancellationToken) {
    let (mut probe, mut there) = (database::Probe::of(&pool), true);
    while tokio::time::timeout(PROBE_INTERVAL, stop.cancelled()).await.is_err() {
        let answers = probe.answers().await;
        if answers == there || stop.is_cancelled() {
            continue;
        }
        there = answers;
        if there {
            info!("database answers again; ready");
            readiness.set(Ok(()));
        } else {
            warn!("database does not answer; not ready");
            readiness.set(Err("its database does not answer".into()));
        }
        health.set(there).await;
    }
}

/// Waits for every task; the first failure is the outcome.
async fn drain(
    ended: Option<Result<anyhow::Result<()>, tokio::task::JoinError>>,
    mut tasks: JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    let mut note = |ended: Result<anyhow::Result<()>, tokio::task::JoinError>| {
        let ended = ended.map_err(anyhow::Error::from).and_then(|ended| ended);
        if outcome.is_ok() {
            outcome = ended;
        }
    };
    if let Some(ended) = ended {
        note(ended);
    }
    while let Some(ended) = tasks.join_next().await {
        note(ended);
    }
    outcome
}

//! `orderly simulate`: the outside world of the platform, as processes of their own.
//!
//! The payment provider and the mail server keep durable ledgers that no database of the platform shares, so that
//! `verify` can hold the databases against what the outside world has seen.

pub(crate) mod ledger;
mod mail;
mod provider;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};
use clap::{Subcommand, ValueEnum};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::platform::DataDir;

/// Arguments of `orderly simulate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    data_dir: DataDir,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the simulated payment provider (HTTP/JSON, idempotent by payment id).
    Provider {
        /// Loopback address to serve on.
        #[arg(long, env = "ORDERLY_PROVIDER_LISTEN", default_value = "127.0.0.1:9201")]
        listen: SocketAddr,
        /// File that remembers every charge, decline and refund [default: provider.ndjson in the data directory]
        #[arg(long)]
        ledger: Option<PathBuf>,
        /// How long every charge and refund takes.
        #[arg(long, default_value = "20ms", value_parser = provider::latency)]
        latency: Duration,
        /// Random extra time of up to this much.
        #[arg(long, default_value = "0ms", value_parser = provider::latency)]
        jitter: Duration,
        /// Start in an outage: every charge and refund is refused with 503.
        #[arg(long)]
        outage: bool,
    },
    /// Run the simulated mail server (SMTP).
    Mail {
        /// Loopback address to serve on.
        #[arg(long, env = "ORDERLY_MAIL_LISTEN", default_value = "127.0.0.1:2525")]
        listen: SocketAddr,
        /// File that remembers every accepted e-mail [default: mail.ndjson in the data directory]
        #[arg(long)]
        ledger: Option<PathBuf>,
    },
    /// Start or end an outage of a running provider.
    Outage {
        /// Whether the provider refuses everything.
        state: Switch,
        /// The provider's address.
        #[arg(long, env = "ORDERLY_PROVIDER_URL", default_value = "http://127.0.0.1:9201")]
        provider_url: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// Runs one simulator until SIGTERM or SIGINT, or throws the switch of a running one.
///
/// # Errors
/// When the address is not loopback or taken, or the ledger cannot be opened or written.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Provider { listen, ledger, latency, jitter, outage } => {
            let ledger = ledger.unwrap_or_else(|| args.data_dir.provider_ledger());
            let settings = provider::Settings { latency, jitter, outage };
            provider::serve(bind(listen).await?, &ledger, settings, stop_on_signal()?).await?;
        }
        Command::Mail { listen, ledger } => {
            let ledger = ledger.unwrap_or_else(|| args.data_dir.mail_ledger());
            mail::serve(bind(listen).await?, &ledger, mail::IDLE_TIMEOUT, stop_on_signal()?).await?;
        }
        Command::Outage { state, provider_url } => {
            let on = matches!(state, Switch::On);
            reqwest::Client::new()
                .put(format!("{}/v1/outage", provider_url.trim_end_matches('/')))
                .timeout(Duration::from_secs(5))
                .json(&serde_json::json!({ "on": on }))
                .send()
                .await
                .and_then(reqwest::Response::error_for_status)
                .with_context(|| format!("no answer from the provider; is it running at {provider_url}?"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The simulators have no authentication, so nobody outside this machine may reach them.
async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    ensure!(address.ip().is_loopback(), "{address} is not loopback; simulators listen on 127.0.0.1 only");
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; stop what uses it or choose another --listen"))
}

fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn({
        let stop = stop.clone();
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop.cancel();
        }
    });
    Ok(stop)
}

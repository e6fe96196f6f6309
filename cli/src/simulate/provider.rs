//! The simulated payment provider: HTTP/JSON on loopback, idempotent by payment id over restarts.
//!
//! `book` decides and remembers, `api` speaks HTTP, this file accepts connections. It serves them with hyper itself
//! because a lost answer (`tok_timeout_once`) has to close its connection without a response, which axum cannot.

mod api;
mod book;

use std::{io, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use hyper::{
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore, time};
use tokio_util::sync::CancellationToken;

use self::{api::AnswerLost, book::Book};

/// Connections served at once; more wait in the listen queue.
const MAX_CONNECTIONS: usize = 1024;
/// Longest time for the head of a request, and how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time from head to answer. Longer than any latency that can be configured.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest configurable latency and jitter, each.
const MAX_LATENCY: Duration = Duration::from_secs(10);
/// How long running requests may take to finish after SIGTERM.
const DRAIN: Duration = Duration::from_secs(10);

/// How the provider behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// How long every charge and refund takes.
    pub(super) latency: Duration,
    /// Random extra time of up to this much.
    pub(super) jitter: Duration,
    /// Whether it starts in an outage.
    pub(super) outage: bool,
}

/// Parses a latency such as `20ms`, at most ten seconds.
pub(super) fn latency(text: &str) -> Result<Duration, String> {
    let latency = humantime::parse_duration(text).map_err(|err| err.to_string())?;
    if latency > MAX_LATENCY { Err("at most 10s".to_owned()) } else { Ok(latency) }
}

/// Serves until `stop`, then lets running requests finish.
///
/// # Errors
/// When the ledger cannot be opened, or has stopped after a failed write.
pub(super) async fn serve(
    listener: TcpListener,
    ledger: &Path,
    settings: Settings,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let book = Arc::new(Book::open(ledger)?);
    let router = TowerToHyperService::new(api::router(Arc::clone(&book), settings));
    tracing::info!(address = %listener.local_addr()?, payments = book.len(), "payment provider is listening");

    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            () = book.stopped() => anyhow::bail!(super::ledger::Error::Stopped),
            accepted = accept(&listener, &connections) => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "connection was not accepted");
                time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let router = router.clone();
        let service = service_fn(move |request| {
            let response = time::timeout(REQUEST_TIMEOUT, router.call(request));
            async move {
                let Ok(Ok(response)) = response.await else { return Err(AnswerLost) };
                // An error makes hyper close the connection without having sent anything.
                if response.extensions().get::<AnswerLost>().is_some() {
                    Err(AnswerLost)
                } else {
                    Ok(response)
                }
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    time::timeout(DRAIN, graceful.shutdown())
        .await
        .context("requests were still running 10s after the signal")
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

#[cfg(test)]
mod tests;

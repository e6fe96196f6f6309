//! The signals that stop the platform.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The first SIGINT, SIGTERM or SIGHUP cancels the first token, a second one also the other: stop, and hurry.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn watch() -> std::io::Result<(CancellationToken, CancellationToken)> {
    let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let tokens = [stop.clone(), hurry.clone()];
    tokio::spawn(async move {
        for token in tokens {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            token.cancel();
        }
    });
    Ok((stop, hurry))
}

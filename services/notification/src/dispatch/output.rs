//! The log channel: a line on standard output for each notification.
//!
//! Not through `tracing`: `RUST_LOG` filters its lines, and its writer drops them while their reader is slow. A line
//! here is delivered when the system has taken all of it.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use crate::store::Claimed;

/// From the attempt to the last line taken, waiting for the lines before it included. Well below a claim's lease.
const DEADLINE: Duration = Duration::from_secs(10);
/// Lines in one write: fewer than 4 KiB, of which a pipe takes all or nothing (`PIPE_BUF`).
const AT_ONCE: usize = 25;

/// One write at a time: whoever never reads them holds up one thread, not one for each attempt.
static TURN: Semaphore = Semaphore::const_new(1);

/// Why a line has not, as far as is known, been written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The system refused it: no space left, or nobody reads any more.
    #[error("standard output refused the line")]
    Refused(#[from] io::Error),
    /// The reader is too slow; it may still get the line, and then gets it again.
    #[error("standard output did not take the line within {} s", DEADLINE.as_secs())]
    TimedOut,
}

/// Writes the notifications' ids and kinds: no text, and nothing about whom they are for. Returns how many of them, the
/// first ones, were taken, and why the others were not.
pub(super) async fn write(notifications: &[Claimed]) -> (usize, Result<(), Error>) {
    let deadline = Instant::now() + DEADLINE;
    let mut taken = 0;
    for lines in notifications.chunks(AT_ONCE) {
        let written = timeout_at(deadline, write_text(lines.iter().map(line).collect())).await;
        match written {
            Ok(Ok(())) => taken += lines.len(),
            Ok(Err(error)) => return (taken, Err(error.into())),
            Err(_) => return (taken, Err(Error::TimedOut)),
        }
    }
    (taken, Ok(()))
}

fn line(notification: &Claimed) -> String {
    let Claimed { notification_id, order_id, kind, .. } = notification;
    format!("notification notification_id={notification_id} order_id={order_id} kind={kind}\n")
}

async fn write_text(text: String) -> io::Result<()> {
    let turn = TURN.acquire().await.map_err(io::Error::other)?;
    let written = spawn_blocking(move || {
        // Given back when the write ends, also where nobody waits for it any more.
        let _turn = turn;
        let mut output = io::stdout().lock();
        output.write_all(text.as_bytes())?;
        output.flush()
    });
    written.await.map_err(io::Error::other)?
}

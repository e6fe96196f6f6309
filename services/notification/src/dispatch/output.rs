//! The log channel: a line on standard output for each notification.
//!
//! Not through `tracing`: `RUST_LOG` filters its lines, and its writer drops them while their reader is slow. A line
//! here is delivered when the system has taken all of it.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use crate::store::Claimed;

/// From the attempt to the line taken, waiting for the lines before it included. Well below a claim's lease.
const DEADLINE: Duration = Duration::from_secs(10);

/// One line at a time: whoever never reads them holds up one thread, not one for each attempt.
static TURN: Semaphore = Semaphore::const_new(1);

/// Why the line has not, as far as is known, been written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The system refused it: no space left, or nobody reads any more.
    #[error("standard output refused the line")]
    Refused(#[from] io::Error),
    /// The reader is too slow; it may still get the line, and then gets it again.
    #[error("standard output did not take the line within {} s", DEADLINE.as_secs())]
    TimedOut,
}

/// Writes the notification's ids and kind: no text, and nothing about whom it is for.
pub(super) async fn write(notification: &Claimed) -> Result<(), Error> {
    let Claimed { notification_id, order_id, kind, .. } = notification;
    let line = format!("notification notification_id={notification_id} order_id={order_id} kind={kind}\n");
    timeout(DEADLINE, write_line(line)).await.map_err(|_| Error::TimedOut)??;
    Ok(())
}

async fn write_line(line: String) -> io::Result<()> {
    let turn = TURN.acquire().await.map_err(io::Error::other)?;
    let written = spawn_blocking(move || {
        // Given back when the write ends, also where nobody waits for it any more.
        let _turn = turn;
        let mut output = io::stdout().lock();
        output.write_all(line.as_bytes())?;
        output.flush()
    });
    written.await.map_err(io::Error::other)?
}

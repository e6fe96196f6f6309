//! An append-only NDJSON file with group commit, and one process at a time.
//!
//! One thread takes every waiting line, writes them at once, syncs once and answers all: under load a sync is shared by
//! many callers, without load nobody waits for a timer.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{mpsc, oneshot};

/// Lines that may wait for the writer; more callers wait before they queue.
const QUEUE: usize = 4096;
/// Bytes written at once, so that a commit stays short.
const BATCH_BYTES: usize = 1 << 20;

/// What can go wrong with a ledger. None of it is mended by trying again in the same process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file could not be created, read or locked.
    #[error("ledger {} cannot be opened; check the directory and its permissions", .path.display())]
    Open {
        /// The ledger.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("ledger {} is in use; stop the other process or choose another file", .path.display())]
    InUse {
        /// The ledger.
        path: PathBuf,
    },
    /// A whole line is not what this program writes: somebody else's file, or a damaged disk.
    #[error("ledger {} line {line} is not a record of this ledger; move the file away", .path.display())]
    Corrupt {
        /// The ledger.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What the parser missed.
        source: serde_json::Error,
    },
    /// The record could not be turned into a line.
    #[error("ledger record cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
    /// A write or sync failed before. What is on disk is unknown until the file is read again.
    #[error("ledger has stopped after a failed write; free some space and restart")]
    Stopped,
}

/// When a line counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// After fdatasync: it survives a power failure.
    Synced,
    /// After write: it survives the death of this process, not of the machine.
    Written,
}

/// A handle to the writer. Dropping it ends the writer, once every queued line is on disk, and releases the lock.
#[derive(Debug)]
pub(crate) struct Ledger {
    queue: Option<mpsc::Sender<Line>>,
    writer: Option<thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Line {
    bytes: Vec<u8>,
    done: oneshot::Sender<()>,
}

impl Ledger {
    /// Opens or creates the ledger, locks it, and hands every record in it to `replay`, the oldest first.
    ///
    /// A last line without its newline was never acknowledged (the process died while writing it); it is cut off.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) fn open<T: DeserializeOwned>(
        path: &Path,
        durability: Durability,
        replay: impl FnMut(T),
    ) -> Result<Self, Error> {
        let open_error = |source| Error::Open { path: path.to_owned(), source };
        let file = create(path).map_err(open_error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(Error::InUse { path: path.to_owned() }),
            Err(fs::TryLockError::Error(source)) => return Err(open_error(source)),
        }
        let whole = read_back(path, &file, replay)?;
        let torn = file.metadata().map_err(open_error)?.len() - whole;
        if torn > 0 {
            tracing::warn!(ledger = %path.display(), bytes = torn, "dropped a torn last line");
            file.set_len(whole).map_err(open_error)?;
        }
        // Whole lines of a killed process may still be in memory only, and from now on they count.
        file.sync_all().map_err(open_error)?;
        (&file).seek(SeekFrom::End(0)).map_err(open_error)?;
        let (queue, lines) = mpsc::channel(QUEUE);
        let writer = thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || write_all(&file, lines, durability))
            .map_err(open_error)?;
        Ok(Self { queue: Some(queue), writer: Some(writer) })
    }

    /// Appends one record and returns when it is written as [`Durability`] promises.
    ///
    /// A caller that stops waiting must take the record as possibly written.
    ///
    /// # Errors
    /// [`Error::Stopped`] after any failed write, for this and every later record.
    pub(crate) async fn append<T: Serialize + Sync>(&self, record: &T) -> Result<(), Error> {
        let mut bytes = serde_json::to_vec(record).map_err(Error::Encode)?;
        bytes.push(b'\n');
        let (done, written) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(Error::Stopped)?;
        queue.send(Line { bytes, done }).await.map_err(|_| Error::Stopped)?;
        written.await.map_err(|_| Error::Stopped)
    }

    /// Completes when the writer has stopped after a failed write.
    pub(crate) async fn stopped(&self) {
        if let Some(queue) = &self.queue {
            queue.closed().await;
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.queue.take();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("ledger writer panicked");
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    // The name of a new file is durable only once its directory is.
    File::open(directory)?.sync_all()?;
    Ok(file)
}

/// Returns the length of the part that consists of whole lines.
fn read_back<T: DeserializeOwned>(path: &Path, file: &File, mut replay: impl FnMut(T)) -> Result<u64, Error> {
    let mut reader = BufReader::with_capacity(BATCH_BYTES, file);
    let (mut whole, mut number, mut line) = (0, 0, Vec::new());
    loop {
        line.clear();
        let read = reader
            .read_until(b'\n', &mut line)
            .map_err(|source| Error::Open { path: path.to_owned(), source })?;
        if line.pop() != Some(b'\n') {
            return Ok(whole);
        }
        number += 1;
        let record = serde_json::from_slice(&line).map_err(|source| Error::Corrupt {
            path: path.to_owned(),
            line: number,
            source,
        })?;
        replay(record);
        whole += read as u64;
    }
}

/// Ends at the first failure: after a failed fdatasync nobody knows what is on disk, and trying again may report
/// success without having written (<https://wiki.postgresql.org/wiki/Fsync_Errors>).
fn write_all(mut file: &File, mut lines: mpsc::Receiver<Line>, durability: Durability) {
    let (mut batch, mut waiting) = (Vec::new(), Vec::new());
    while let Some(first) = lines.blocking_recv() {
        let mut next = Some(first);
        while let Some(line) = next {
            batch.extend_from_slice(&line.bytes);
            waiting.push(line.done);
            next = if batch.len() < BATCH_BYTES { lines.try_recv().ok() } else { None };
        }
        let written = file.write_all(&batch).and_then(|()| match durability {
            Durability::Synced => file.sync_data(),
            Durability::Written => Ok(()),
        });
        if let Err(error) = written {
            tracing::error!(%error, "ledger write failed");
            return;
        }
        batch.clear();
        for done in waiting.drain(..) {
            // Whoever stopped waiting needs no answer.
            let _ = done.send(());
        }
    }
}

#[cfg(test)]
mod tests;

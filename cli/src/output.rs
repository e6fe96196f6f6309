//! What the command says to people: progress on stdout, logs and errors on stderr.
//!
//! A terminal that is gone or a pipe that nobody reads must never stop or slow what runs, so each stream has a thread
//! of its own behind a bounded queue; what does not fit is dropped.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::{
        LazyLock,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Lines that may wait for a slow reader before further ones are dropped.
const QUEUE: usize = 4096;

/// The longest that [`flush`] waits for a reader.
const FLUSH: Duration = Duration::from_secs(2);

static STDOUT: LazyLock<Stream> = LazyLock::new(|| Stream::start("stdout", io::stdout()));
static STDERR: LazyLock<Stream> = LazyLock::new(|| Stream::start("stderr", io::stderr()));

/// Sends the log to stderr, filtered by `RUST_LOG` or else at the `default` level.
pub fn init_tracing(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    // A second call, from a test in the same process, keeps the first subscriber.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Stderr).try_init();
}

/// Prints a line to stdout.
pub fn line(text: impl AsRef<str>) {
    STDOUT.send(text.as_ref());
}

/// Prints a line to stderr.
pub fn note(text: impl AsRef<str>) {
    STDERR.send(text.as_ref());
}

/// Puts this in place of what [`progress`] has put there before; the next note follows an empty one. Without a terminal
/// nobody looks.
pub fn progress(text: &str) {
    if io::stderr().is_terminal() {
        let _ = STDERR.0.try_send(Message::Text(format!("\r\x1b[2K{text}").into_bytes()));
    }
}

/// Writes data to stdout, however slowly it is read. False where nobody reads it any more.
///
/// # Errors
/// When it cannot be written.
pub fn data(text: impl AsRef<str>) -> io::Result<bool> {
    match writeln!(io::stdout().lock(), "{}", text.as_ref()) {
        Ok(()) => Ok(true),
        // Whoever closed the pipe has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Prints an error and its causes to stderr, one a line.
pub fn error(err: &anyhow::Error) {
    note(format!("error: {err}"));
    for cause in err.chain().skip(1) {
        note(format!("  caused by: {cause}"));
    }
}

/// Waits, for two seconds a stream at most, until what was printed has been written.
pub fn flush() {
    for stream in [&STDOUT, &STDERR] {
        stream.flush();
    }
}

enum Message {
    Text(Vec<u8>),
    Flush(SyncSender<()>),
}

struct Stream(SyncSender<Message>);

impl Stream {
    fn start(name: &str, out: impl Write + Send + 'static) -> Self {
        let (sender, receiver) = sync_channel(QUEUE);
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || write_all(out, &receiver));
        // Without a thread the receiver is gone and every message is dropped, which is what the module promises.
        drop(spawned);
        Self(sender)
    }

    fn send(&self, text: &str) {
        let _ = self.0.try_send(Message::Text(format!("{text}\n").into_bytes()));
    }

    fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.0.try_send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(FLUSH);
        }
    }
}

fn write_all(mut out: impl Write, messages: &Receiver<Message>) {
    for message in messages {
        match message {
            // A closed pipe is not an error: the reader has seen enough.
            Message::Text(bytes) => {
                let _ = out.write_all(&bytes).and_then(|()| out.flush());
            }
            Message::Flush(done) => {
                let _ = done.try_send(());
            }
        }
    }
}

/// Log lines take the same way to stderr as everything else.
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = STDERR.0.try_send(Message::Text(bytes.to_vec()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! The simulated mail server: SMTP on loopback that records who was sent what, and throws the text away.
//!
//! `session` is the protocol without sockets, `message` reads headers, this file moves bytes. 250 to DATA means that
//! the line is synced; a message whose connection broke before that may be recorded and sent again, as with any mail
//! server. Own code, because the crates for it are unmaintained or accept mail before they can refuse it.

mod message;
mod session;

use std::{io, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, serde::rfc3339};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use self::session::{Envelope, MAX_MESSAGE, Session, Step};
use super::ledger::{self, Durability, Ledger};

/// How long a client may be silent (RFC 5321 asks for five minutes; on loopback one is plenty).
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections served at once; more wait in the listen queue.
const MAX_CONNECTIONS: usize = 256;
/// Longest line of a message with its line end (RFC 5321, 4.5.3.1.6). Commands may be as long.
const MAX_LINE: usize = 1000;

/// One line of the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    #[serde(with = "rfc3339")]
    at: OffsetDateTime,
    /// Without its angle brackets.
    message_id: Option<String>,
    from: String,
    to: Vec<String>,
    /// As on the wire, unfolded.
    subject: Option<String>,
    /// `X-Orderly-Order-Id`.
    order_id: Option<String>,
    /// `X-Orderly-Kind`.
    kind: Option<String>,
    /// Bytes of headers and text after dot-unstuffing.
    size: usize,
}

/// Serves until `stop`. A message that is being received then is refused with 421, one being recorded is answered.
///
/// # Errors
/// When the ledger cannot be opened, or has stopped after a failed write.
pub(super) async fn serve(
    listener: TcpListener,
    ledger: &Path,
    idle_timeout: Duration,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut messages = 0_u64;
    let ledger = Arc::new(Ledger::open(ledger, Durability::Synced, |_: Record| messages += 1)?);
    tracing::info!(address = %listener.local_addr()?, messages, "mail server is listening");

    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut sessions = JoinSet::new();
    loop {
        let permit = Arc::clone(&connections).acquire_owned();
        tokio::select! {
            () = stop.cancelled() => break,
            () = ledger.stopped() => anyhow::bail!(ledger::Error::Stopped),
            Some(_) = sessions.join_next(), if !sessions.is_empty() => {}
            accepted = async { (permit.await, listener.accept().await) } => match accepted {
                (Ok(permit), Ok((stream, _))) => {
                    let connection = Connection { ledger: Arc::clone(&ledger), idle_timeout, stop: stop.clone() };
                    sessions.spawn(async move {
                        if let Err(error) = connection.serve(stream).await {
                            tracing::debug!(%error, "session ended early");
                        }
                        drop(permit);
                    });
                }
                (_, refused) => {
                    let error = refused.err();
                    tracing::warn!(?error, "connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    let drained = async { while sessions.join_next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), drained)
        .await
        .context("sessions were still open 10s after the signal")
}

struct Connection {
    ledger: Arc<Ledger>,
    idle_timeout: Duration,
    stop: CancellationToken,
}

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Line,
    /// The rest of the line was skipped.
    TooLong,
    Closed,
}

impl Connection {
    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        let mut session = Session::default();
        let mut line = Vec::with_capacity(MAX_LINE);
        stream.write_all(b"220 orderly mail simulator\r\n").await?;
        loop {
            let step = match self.read(&mut stream, &mut line).await? {
                Ok(Read::Closed) => return Ok(()),
                Ok(Read::TooLong) => session.too_long(),
                Ok(Read::Line) => session.command(&line),
                Err(goodbye) => return stream.write_all(goodbye).await,
            };
            match step {
                Step::Reply(reply) => stream.write_all(reply.as_bytes()).await?,
                Step::Close(reply) => return stream.write_all(reply.as_bytes()).await,
                Step::Data(envelope) => {
                    stream.write_all(b"354 end with <CRLF>.<CRLF>\r\n").await?;
                    match self.message(&mut stream, &mut line, envelope).await? {
                        Ok(reply) => stream.write_all(reply).await?,
                        Err(goodbye) => return stream.write_all(goodbye).await,
                    }
                }
            }
        }
    }

    /// Reads a message to its end, also when it is refused, and records it. `Err` says goodbye.
    async fn message(
        &self,
        stream: &mut BufReader<TcpStream>,
        line: &mut Vec<u8>,
        envelope: Envelope,
    ) -> io::Result<Result<&'static [u8], &'static [u8]>> {
        let (mut text, mut refused) = (Vec::new(), None::<&'static [u8]>);
        loop {
            match self.read(stream, line).await? {
                Ok(Read::Closed) => return Ok(Err(b"")),
                Ok(Read::TooLong) => refused = Some(b"500 line is longer than 1000 bytes\r\n"),
                // Only this ends a message: a bare LF around the dot is how mail is smuggled past others.
                Ok(Read::Line) if line == b".\r\n" => break,
                Ok(Read::Line) => {
                    let stuffed = usize::from(line.first() == Some(&b'.'));
                    if text.len() + line.len() - stuffed > MAX_MESSAGE {
                        refused = Some(b"552 message is larger than 1 MiB\r\n");
                    }
                    if refused.is_none() {
                        text.extend_from_slice(line.get(stuffed..).unwrap_or_default());
                    }
                }
                Err(goodbye) => return Ok(Err(goodbye)),
            }
        }
        if let Some(reply) = refused {
            return Ok(Ok(reply));
        }
        let headers = message::Headers::read(&text);
        let record = Record {
            at: OffsetDateTime::now_utc(),
            message_id: headers.get("message-id").map(|id| id.trim_matches(['<', '>']).to_owned()),
            from: envelope.from,
            to: envelope.to,
            subject: headers.get("subject").map(str::to_owned),
            order_id: headers.get("x-orderly-order-id").map(str::to_owned),
            kind: headers.get("x-orderly-kind").map(str::to_owned),
            size: text.len(),
        };
        match self.ledger.append(&record).await {
            Ok(()) => Ok(Ok(b"250 recorded\r\n")),
            Err(error) => {
                tracing::error!(%error, "message was not recorded");
                Ok(Ok(b"451 message was not recorded, try again\r\n"))
            }
        }
    }

    /// Reads one line with its end. `Err` is the last thing to say to a client.
    async fn read(
        &self,
        stream: &mut BufReader<TcpStream>,
        line: &mut Vec<u8>,
    ) -> io::Result<Result<Read, &'static [u8]>> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(Err(b"421 closing\r\n")),
            read = tokio::time::timeout(self.idle_timeout, read_line(stream, line)) => match read {
                Ok(read) => read.map(Ok),
                Err(_) => Ok(Err(b"421 idle for too long\r\n")),
            },
        }
    }
}

/// Keeps at most [`MAX_LINE`] bytes, whatever is sent.
async fn read_line(stream: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> io::Result<Read> {
    line.clear();
    let mut too_long = false;
    loop {
        let buffer = stream.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(Read::Closed);
        }
        let end = buffer.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
        let taken = end.unwrap_or(buffer.len());
        too_long |= line.len() + taken > MAX_LINE;
        if !too_long {
            line.extend_from_slice(&buffer[..taken]);
        }
        stream.consume(taken);
        if end.is_some() {
            return Ok(if too_long { Read::TooLong } else { Read::Line });
        }
    }
}

#[cfg(test)]
mod tests;

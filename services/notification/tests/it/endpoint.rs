//! A customer's endpoint on a socket of its own: it answers each call from a script and keeps what it was given.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// What it says to a call; it has kept the call all the same.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// This status line and these headers, such as `410 Gone`.
    Status(&'static str),
    /// 200, and a body that never ends.
    Endless,
    /// Nothing: it hangs up.
    HangUp,
    /// Nothing, and it does not hang up either.
    Silence,
}

/// A call as it came.
#[derive(Clone, Debug)]
pub struct Call {
    /// Method and path.
    pub request: String,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Call {
    /// The value of a header; empty where it has none.
    pub fn header(&self, name: &str) -> &str {
        let header = self.headers.iter().find(|(known, _)| known == name);
        header.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// Whether the signature is that of this secret, by the specification's words and RFC 2104's.
    pub fn is_signed_with(&self, secret: &str) -> anyhow::Result<bool> {
        let mut key = BASE64_STANDARD.decode(secret.trim_start_matches("whsec_"))?;
        key.resize(64, 0);
        let pad = |byte: u8| key.iter().map(|key| key ^ byte).collect::<Vec<u8>>();
        let content = [self.header("webhook-id"), self.header("webhook-timestamp"), &self.body].join(".");
        let inner = Sha256::digest([pad(0x36), content.into_bytes()].concat());
        let outer = Sha256::digest([pad(0x5c), inner.to_vec()].concat());
        Ok(self.header("webhook-signature") == format!("v1,{}", BASE64_STANDARD.encode(outer)))
    }
}

/// The scripted endpoint; it stops with the test's runtime.
#[derive(Clone, Default)]
pub struct Endpoint {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Endpoint {
    /// Listens, and will answer each call with the next of `replies`, and 204 after the last.
    pub async fn listen(replies: &[Reply]) -> anyhow::Result<(Self, SocketAddr)> {
        let endpoint = Self::default();
        endpoint.will(replies);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = endpoint.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.converse(stream).await });
            }
        });
        Ok((endpoint, address))
    }

    /// The next calls get these replies.
    pub fn will(&self, replies: &[Reply]) {
        lock(&self.replies).extend(replies);
    }

    /// Every call so far, also those it did not take.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }

    async fn converse(self, stream: TcpStream) -> anyhow::Result<()> {
        let mut stream = BufReader::new(stream);
        while let Some(call) = read(&mut stream).await? {
            lock(&self.calls).push(call);
            let reply = lock(&self.replies).pop_front().unwrap_or(Reply::Status("204 No Content"));
            match reply {
                Reply::Status(status) => {
                    stream
                        .write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes())
                        .await?;
                }
                Reply::Endless => {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await?;
                    // Ends when the caller hangs up.
                    loop {
                        stream.write_all(&[b'x'; 1024]).await?;
                    }
                }
                Reply::HangUp => return Ok(()),
                Reply::Silence => std::future::pending().await,
            }
        }
        Ok(())
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> anyhow::Result<Option<Call>> {
    let mut call = Call { request: String::new(), headers: Vec::new(), body: String::new() };
    if stream.read_line(&mut call.request).await? == 0 {
        return Ok(None);
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        call.headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut body = vec![0; call.header("content-length").parse()?];
    stream.read_exact(&mut body).await?;
    call.body = String::from_utf8(body)?;
    Ok(Some(call))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

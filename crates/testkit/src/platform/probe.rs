//! Asking a process whether it is ready.

use std::time::Duration;

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::Part;

/// How long a process may take to become ready.
pub(super) const READY: Duration = Duration::from_secs(30);

/// `/readyz`, or for a simulator an open port.
pub(super) async fn is_ready(part: Part, address: &str) -> anyhow::Result<Option<()>> {
    if matches!(part, Part::Provider | Part::Mail) {
        return Ok(TcpStream::connect(address).await.ok().map(drop));
    }
    Ok(readyz(address).await?.filter(|answer| answer.starts_with("200")).map(drop))
}

/// The status code and the body.
pub(super) async fn readyz(address: &str) -> anyhow::Result<Option<String>> {
    let Ok(mut stream) = TcpStream::connect(address).await else { return Ok(None) };
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let code = head.split_whitespace().nth(1).context("no status code")?;
    Ok(Some(format!("{code} {body}")))
}

use std::{net::SocketAddr, path::PathBuf};

use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::header::{Header, HeaderName, HeaderValue},
};
use tokio::{io::AsyncReadExt as _, task::JoinHandle};

use super::*;

struct Running {
    address: SocketAddr,
    ledger: PathBuf,
    stop: CancellationToken,
    server: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn start(directory: &Path, idle_timeout: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, stop) = (listener.local_addr()?, CancellationToken::new());
        let ledger = directory.join("mail.ndjson");
        let server = tokio::spawn({
            let (ledger, stop) = (ledger.clone(), stop.clone());
            async move { serve(listener, &ledger, idle_timeout, stop).await }
        });
        Ok(Self { address, ledger, stop, server })
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.server.await?
    }

    /// Sends everything at once (pipelining), and returns all replies until the server closes.
    async fn raw(&self, script: &[u8]) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.address).await?;
        let (mut from, mut to) = stream.split();
        let mut replies = String::new();
        let (sent, read) = tokio::join!(to.write_all(script), from.read_to_string(&mut replies));
        sent?;
        read?;
        Ok(replies)
    }

    fn records(&self) -> anyhow::Result<Vec<Record>> {
        let text = std::fs::read_to_string(&self.ledger)?;
        Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }
}

macro_rules! text_header {
    ($type:ident, $name:literal) => {
        #[derive(Clone)]
        struct $type(String);
        impl Header for $type {
            fn name() -> HeaderName {
                HeaderName::new_from_ascii_str($name)
            }
            fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
                Ok(Self(text.to_owned()))
            }
            fn display(&self) -> HeaderValue {
                HeaderValue::new(Self::name(), self.0.clone())
            }
        }
    };
}
text_header!(OrderId, "X-Orderly-Order-Id");
text_header!(Kind, "X-Orderly-Kind");

#[tokio::test]
async fn records_what_a_real_client_sends() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = Running::start(directory.path(), IDLE_TIMEOUT).await?;
    let client = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1")
        .port(server.address.port())
        .build();
    let text = "Hello.\n.a line with a leading dot\n..\n.\nThe end.\n";
    for number in 0..2 {
        let message = Message::builder()
            .from("Orders <orders@orderly.example>".parse()?)
            .to("cust-1@example.org".parse()?)
            .message_id(Some(format!("<{number}@orderly>")))
            .header(OrderId("0199aaaa".to_owned()))
            .header(Kind("ORDER_CONFIRMED".to_owned()))
            .subject("Your order 0199aaaa-bbbb-7ccc-8ddd-eeeeffff0000 of a gaming mouse, a keyboard and a cable is confirmed")
            .body(text.to_owned())?;
        client.send(message).await?;
    }
    let [first, second] = &server.records()?[..] else { anyhow::bail!("two records") };
    assert_eq!(first.message_id.as_deref(), Some("0@orderly"));
    assert_eq!(second.message_id.as_deref(), Some("1@orderly"));
    assert_eq!(
        (first.from.as_str(), first.to.join(",")),
        ("orders@orderly.example", "cust-1@example.org".to_owned())
    );
    assert_eq!(
        (first.order_id.as_deref(), first.kind.as_deref()),
        (Some("0199aaaa"), Some("ORDER_CONFIRMED"))
    );
    assert!(first.subject.as_deref().is_some_and(|subject| subject.ends_with("a cable is confirmed")));
    client.shutdown().await;
    server.stop().await
}

#[tokio::test]
async fn goes_on_after_rubbish_and_unstuffs_dots() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = Running::start(directory.path(), IDLE_TIMEOUT).await?;
    let mut script = b"\x00\xff\x16\x03\x01\r\nDATA\r\nEHLO x\r\n".to_vec();
    script.extend_from_slice(&[b'A'; 5000]);
    script.extend_from_slice(
        b"\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: hi\r\n\r\n..x\r\n.\n\n.\r\nQUIT\r\n",
    );
    let replies = server.raw(&script).await?;
    let codes: Vec<_> = replies.lines().map(|line| &line[..4]).filter(|code| !code.ends_with('-')).collect();
    assert_eq!(codes, ["220 ", "500 ", "503 ", "250 ", "500 ", "250 ", "250 ", "354 ", "250 ", "221 "]);
    let [record] = &server.records()?[..] else { anyhow::bail!("one record") };
    assert_eq!((record.subject.as_deref(), record.message_id.as_deref()), (Some("hi"), None));
    assert_eq!(record.size, "Subject: hi\r\n\r\n.x\r\n\n\n".len());
    server.stop().await
}

#[tokio::test]
async fn refuses_what_is_too_long_and_takes_the_next() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = Running::start(directory.path(), IDLE_TIMEOUT).await?;
    let envelope = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n";
    let mut script = b"HELO x\r\n".to_vec();
    script.extend_from_slice(envelope);
    for _ in 0..1100 {
        script.extend_from_slice(&[b'y'; 998]);
        script.extend_from_slice(b"\r\n");
    }
    script.extend_from_slice(b".\r\n");
    script.extend_from_slice(envelope);
    script.extend_from_slice(&[b'z'; 999]);
    script.extend_from_slice(b"\r\n.\r\n");
    script.extend_from_slice(envelope);
    script.extend_from_slice(b"short\r\n.\r\nQUIT\r\n");
    let replies = server.raw(&script).await?;
    let refused: Vec<_> = replies.lines().filter(|line| line.starts_with('5')).collect();
    assert_eq!(refused, ["552 message is larger than 1 MiB", "500 line is longer than 1000 bytes"]);
    assert_eq!(server.records()?.len(), 1);
    server.stop().await
}

#[tokio::test]
async fn records_nothing_of_a_broken_connection_and_ends_an_idle_one() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = Running::start(directory.path(), Duration::from_millis(50)).await?;
    let replies = server.raw(b"HELO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nhalf a mess").await?;
    assert!(replies.ends_with("421 idle for too long\r\n"), "{replies}");
    assert!(server.records()?.is_empty());
    server.stop().await
}

//! A mail server on a socket of its own: it answers each message from a script and keeps what it was given.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// What it says at the end of a message; it has kept the message all the same.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// This reply, such as `250 taken`.
    Reply(&'static str),
    /// Nothing: it hangs up.
    HangUp,
}

/// A message as it came: envelope and content.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The envelope's recipient.
    pub to: String,
    /// Header lines and body.
    pub content: String,
}

impl Mail {
    /// The value of a header; empty where it has none.
    pub fn header(&self, name: &str) -> &str {
        let mut lines = self.content.lines().take_while(|line| !line.is_empty());
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
    }
}

/// The scripted mail server; it stops with the test's runtime.
#[derive(Clone, Default)]
pub struct Smtp {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    mails: Arc<Mutex<Vec<Mail>>>,
}

impl Smtp {
    /// Listens, and will answer each message with the next of `answers`, and 250 after the last.
    pub async fn listen(answers: &[Answer]) -> anyhow::Result<(Self, SocketAddr)> {
        let smtp = Self::default();
        lock(&smtp.answers).extend(answers);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = smtp.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.converse(stream).await });
            }
        });
        Ok((smtp, address))
    }

    /// Every message so far, also those it did not take.
    pub fn mails(&self) -> Vec<Mail> {
        lock(&self.mails).clone()
    }

    async fn converse(self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 test\r\n").await?;
        let mut to = String::new();
        while let Some(line) = read_line(&mut stream).await? {
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            let reply = match verb.as_str() {
                "EHLO" | "MAIL" => "250 test",
                "RCPT" => {
                    to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                    "250 test"
                }
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await?;
                    let content = read_content(&mut stream).await?;
                    lock(&self.mails).push(Mail { to: to.clone(), content });
                    let answer = lock(&self.answers).pop_front();
                    match answer.unwrap_or(Answer::Reply("250 taken")) {
                        Answer::Reply(reply) => reply,
                        Answer::HangUp => return Ok(()),
                    }
                }
                "QUIT" => return stream.write_all(b"221 bye\r\n").await,
                _ => "502 not here",
            };
            stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
        }
        Ok(())
    }
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await?;
    Ok((read > 0).then(|| line.trim_end().to_owned()))
}

async fn read_content(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut content = String::new();
    while let Some(line) = read_line(stream).await?.filter(|line| line != ".") {
        content.push_str(&line);
        content.push('\n');
    }
    Ok(content)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

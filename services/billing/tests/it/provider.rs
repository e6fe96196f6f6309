//! A payment provider that answers from a script and keeps what it was asked.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
};
use tokio::net::TcpListener;

/// One call: path and idempotency key.
pub type Call = (String, String);

/// The scripted provider; it stops with the test's runtime.
#[derive(Clone, Default)]
pub struct Script {
    answers: Arc<Mutex<VecDeque<(u16, &'static str)>>>,
    calls: Arc<Mutex<Vec<Call>>>,
    traceparents: Arc<Mutex<Vec<String>>>,
}

impl Script {
    /// Listens, and will answer each call with the next of `answers`, and 503 after the last.
    pub async fn listen(answers: &[(u16, &'static str)]) -> anyhow::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        Ok((Self::serve(listener, answers), address))
    }

    /// The same on this socket.
    pub fn serve(listener: TcpListener, answers: &[(u16, &'static str)]) -> Self {
        let script = Self::default();
        lock(&script.answers).extend(answers);
        let router = Router::new().fallback(answer).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        script
    }

    /// What it was asked so far.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }

    /// In which span each call was made, as far as it said so.
    pub fn traceparents(&self) -> Vec<String> {
        lock(&self.traceparents).clone()
    }
}

async fn answer(State(script): State<Script>, request: Request) -> (StatusCode, &'static str) {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let key = header("idempotency-key");
    lock(&script.traceparents).push(header("traceparent").to_owned());
    lock(&script.calls).push((request.uri().path().to_owned(), key.to_owned()));
    let (status, body) = lock(&script.answers).pop_front().unwrap_or((503, r#"{"code":"unavailable"}"#));
    (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! A customer's webhook, which remembers who has called it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
};
use tokio::net::TcpListener;

/// An HTTP server on a port of its own, for as long as the test runs.
pub struct Endpoint {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
}

/// One call of it.
#[derive(Clone, Debug)]
pub struct Call(HeaderMap);

impl Endpoint {
    /// Answers the first calls with these statuses, and then 200.
    pub async fn start(statuses: &'static [StatusCode]) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = Self { address: listener.local_addr()?, calls: Arc::default() };
        let calls = Arc::clone(&endpoint.calls);
        let router = Router::new().fallback(async move |headers: HeaderMap| {
            let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
            calls.push(Call(headers));
            statuses.get(calls.len() - 1).copied().unwrap_or(StatusCode::OK)
        });
        tokio::spawn(axum::serve(listener, router).into_future());
        Ok(endpoint)
    }

    /// Where it is.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Who has called it.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Call {
    /// One of its headers; empty where it is not there.
    pub fn header(&self, name: &str) -> String {
        self.0.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }
}

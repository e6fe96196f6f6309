//! The admin port: /livez, /readyz, /metrics, /version.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use telemetry::{Heartbeat, Metrics};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A loop that has not moved for so long is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// Whether the process should get work, and if not, why; clones share it.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<Result<String, String>>>);

impl Readiness {
    /// Not ready yet, for this reason.
    pub fn not_yet(reason: impl Into<String>) -> Self {
        Self(Arc::new(Mutex::new(Err(reason.into()))))
    }

    /// Sets it: `Ok` is ready, `Err` says why not.
    pub fn set(&self, ready: Result<(), String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ready.map(|()| "ready".to_owned());
    }

    /// Ready, with more to say about it.
    pub fn ready(&self, words: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Ok(words.into());
    }

    fn get(&self) -> Result<String, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the admin port tells.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Name of the binary.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// For /readyz.
    pub readiness: Readiness,
    /// For /livez: every one of them must beat.
    pub heartbeats: Vec<Arc<Heartbeat>>,
    /// For /metrics.
    pub metrics: Metrics,
}

/// Answers on an open listener until shutdown.
pub async fn serve(listener: TcpListener, admin: Admin, shutdown: CancellationToken) -> std::io::Result<()> {
    admin.metrics.describe(admin.name, admin.version);
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .with_state(admin);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn livez(State(admin): State<Admin>) -> (StatusCode, String) {
    match admin.heartbeats.iter().find(|heartbeat| heartbeat.age() > STUCK) {
        None => (StatusCode::OK, "alive\n".into()),
        Some(stuck) => {
            let seconds = stuck.age().as_secs();
            (StatusCode::SERVICE_UNAVAILABLE, format!("{} has not moved for {seconds} s\n", stuck.name()))
        }
    }
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, String) {
    match admin.readiness.get() {
        Ok(mut words) => {
            // Still ready: what the process serves is served, and a restart alone would mend nothing.
            for heartbeat in &admin.heartbeats {
                if let Some(trouble) = heartbeat.trouble() {
                    words.push_str(&format!("\n{}: {trouble}", heartbeat.name()));
                }
            }
            (StatusCode::OK, format!("{words}\n"))
        }
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let (content_type, body) = if accepts.contains("application/openmetrics-text") {
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", admin.metrics.openmetrics())
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", admin.metrics.text())
    };
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

async fn version(State(admin): State<Admin>) -> Json<serde_json::Value> {
    Json(serde_json::json!({ "name": admin.name, "version": admin.version }))
}

//! The provider's HTTP surface: `/v1/charges`, `/v1/refunds`, `/v1/outage`, `/livez`.

use std::{
    borrow::Cow,
    error, fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use rand::RngExt as _;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use uuid::Uuid;

use super::{
    Settings,
    book::{Book, Charge, Charged, Refunded, Token},
};
use crate::simulate::ledger;

/// A request is a few ids and an amount.
const MAX_BODY: usize = 16 * 1024;

/// Marks a response that must not be sent: the connection closes instead.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerLost;

impl fmt::Display for AnswerLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("answer is withheld")
    }
}

impl error::Error for AnswerLost {}

#[derive(Clone)]
struct Provider {
    book: Arc<Book>,
    settings: Settings,
    outage: Arc<AtomicBool>,
}

#[derive(Deserialize)]
struct ChargeRequest {
    payment_id: Uuid,
    order_id: Uuid,
    amount: Amount,
    #[serde(default)]
    token: String,
}

#[derive(Deserialize)]
struct Amount {
    currency: String,
    minor: i64,
}

#[derive(Deserialize)]
struct RefundRequest {
    payment_id: Uuid,
    order_id: Uuid,
}

#[derive(Deserialize)]
struct Outage {
    on: bool,
}

pub(super) fn router(book: Arc<Book>, settings: Settings) -> Router {
    let provider = Provider { book, settings, outage: Arc::new(AtomicBool::new(settings.outage)) };
    Router::new()
        .route("/v1/charges", post(charge))
        .route("/v1/refunds", post(refund))
        .route("/v1/outage", get(outage).put(set_outage))
        .route("/livez", get(async || "ok\n"))
        .fallback(async || failure(StatusCode::NOT_FOUND, "not_found", "no such path"))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(provider)
}

async fn charge(
    State(provider): State<Provider>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let request: ChargeRequest = parse(body)?;
    check_key(&headers, request.payment_id)?;
    let Amount { currency, minor } = request.amount;
    if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(invalid("amount.currency must be three capital letters"));
    }
    if minor <= 0 {
        return Err(invalid("amount.minor must be positive"));
    }
    let token = Token::parse(&request.token)
        .ok_or_else(|| failure(StatusCode::BAD_REQUEST, "unknown_token", "no such payment method"))?;
    let charge =
        Charge { payment_id: request.payment_id, order_id: request.order_id, currency, minor, token };
    provider
        .run(move |book| async move {
            Ok(match book.charge(&charge).await? {
                Charged::Succeeded { reference } => {
                    let answer = Json(json!({ "reference": reference, "status": "succeeded" }));
                    Ok((StatusCode::CREATED, answer).into_response())
                }
                Charged::AnswerLost => Ok(axum::Extension(AnswerLost).into_response()),
                Charged::Refused { code } => {
                    Err(failure(StatusCode::PAYMENT_REQUIRED, code, "nothing was charged"))
                }
                Charged::Mismatch => Err(mismatch()),
                Charged::Unavailable => Err(unavailable()),
            })
        })
        .await
}

async fn refund(
    State(provider): State<Provider>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let request: RefundRequest = parse(body)?;
    check_key(&headers, request.payment_id)?;
    provider
        .run(move |book| async move {
            Ok(match book.refund(request.payment_id, request.order_id).await? {
                Refunded::Succeeded { reference, currency, minor } => {
                    let refunded = json!({ "currency": currency, "minor": minor });
                    Ok(Json(json!({ "reference": reference, "refunded": refunded })).into_response())
                }
                Refunded::NotFound => Err(failure(
                    StatusCode::NOT_FOUND,
                    "charge_not_found",
                    "nothing was charged for this payment",
                )),
                Refunded::Mismatch => Err(mismatch()),
            })
        })
        .await
}

async fn outage(State(provider): State<Provider>) -> Response {
    Json(json!({ "on": provider.outage.load(Ordering::Relaxed) })).into_response()
}

async fn set_outage(
    State(provider): State<Provider>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let Outage { on } = parse(body)?;
    provider.outage.store(on, Ordering::Relaxed);
    tracing::info!(on, "outage switched");
    Ok(Json(json!({ "on": on })).into_response())
}

impl Provider {
    /// Waits out the latency and runs `call` in a task of its own: a caller who hangs up must neither stop a charge
    /// halfway nor learn its outcome.
    async fn run<F>(&self, call: impl FnOnce(Arc<Book>) -> F + Send + 'static) -> Result<Response, Failure>
    where
        F: Future<Output = Result<Result<Response, Failure>, ledger::Error>> + Send,
    {
        if self.outage.load(Ordering::Relaxed) {
            return Err(unavailable());
        }
        let (book, delay) = (Arc::clone(&self.book), self.delay());
        let task = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            call(book).await
        });
        match task.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::error!(%error, "payment was not recorded");
                Err(unavailable())
            }
            Err(error) => {
                tracing::error!(%error, "payment task failed");
                Err(unavailable())
            }
        }
    }

    fn delay(&self) -> Duration {
        self.settings.latency + self.settings.jitter.mul_f64(rand::rng().random::<f64>())
    }
}

fn parse<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Failure> {
    let body = body.map_err(|rejection| {
        failure(rejection.status(), "invalid_request", "the body is too large or broke off")
    })?;
    // The parser's own message may quote the body, and with it a token.
    serde_json::from_slice(&body).map_err(|_| invalid("the body is not the JSON of this request"))
}

/// The key makes the call idempotent, and the ledger has a line for each payment id: they must be the same.
fn check_key(headers: &HeaderMap, payment_id: Uuid) -> Result<(), Failure> {
    let key = headers.get("idempotency-key").and_then(|key| Uuid::try_parse_ascii(key.as_bytes()).ok());
    if key == Some(payment_id) {
        Ok(())
    } else {
        Err(invalid("the Idempotency-Key header must be the payment id"))
    }
}

/// Any answer that is not what was asked for: `{"code", "message"}`.
struct Failure {
    status: StatusCode,
    code: Cow<'static, str>,
    message: &'static str,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "code": self.code, "message": self.message }))).into_response()
    }
}

fn failure(status: StatusCode, code: impl Into<Cow<'static, str>>, message: &'static str) -> Failure {
    Failure { status, code: code.into(), message }
}

fn invalid(message: &'static str) -> Failure {
    failure(StatusCode::BAD_REQUEST, "invalid_request", message)
}

fn mismatch() -> Failure {
    failure(StatusCode::CONFLICT, "idempotency_mismatch", "the key was used for another request")
}

fn unavailable() -> Failure {
    failure(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "try again with the same key")
}

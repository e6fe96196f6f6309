//! Webhooks, as the Standard Webhooks specification describes them:
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.
//!
//! Customers choose the URLs, so a call goes only to addresses that everybody can reach, follows no redirect, uses no
//! proxy, and reads little of the answer.

mod address;

use std::{
    borrow::Cow,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use consumer::dispatch::Performed;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Client, Response, StatusCode, redirect::Policy};
use serde::Serialize;
use sha2::Sha256;
use time::OffsetDateTime;
use tracing::{Span, field::Empty, info_span};
use uuid::Uuid;

use address::{Private, Resolver};

use crate::{
    dispatch::{Failure, Medium},
    domain::{Channel, Invalid, Webhook, WebhookSecret},
    store::Claimed,
};

/// From the name's lookup to the end of the answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// Of an answer, of which nothing but the status counts. What is read lets the connection be used again.
const MAX_ANSWER: usize = 16 * 1024;

/// Calls webhooks.
pub struct Webhooks {
    client: Client,
    addresses: Resolver,
}

/// Why an endpoint has not, as far as is known, taken a notification. Never shows a URL or a secret.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It answered, and no.
    #[error("webhook answered {0}")]
    Answered(StatusCode),
    /// No connection, no answer in time, or a broken one; it may have taken it.
    #[error("webhook gave no answer")]
    Lost(#[source] reqwest::Error),
    /// It is at an address that is not everybody's.
    #[error("webhook is at a loopback, private or link-local address")]
    Private,
    /// No call can be made of it.
    #[error("webhook cannot be called")]
    Build(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The body of a call.
#[derive(Serialize)]
struct Payload<'n> {
    r#type: String,
    /// When it was requested: the same for every attempt, as all of the body.
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
    data: Data<'n>,
}

#[derive(Serialize)]
struct Data<'n> {
    notification_id: Uuid,
    order_id: Uuid,
    customer_id: &'n str,
    kind: &'n str,
    subject: &'n str,
    body: &'n str,
}

impl Webhooks {
    /// Calls to public addresses only, or with `allow_private` to any.
    pub fn new(allow_private: bool) -> reqwest::Result<Self> {
        let addresses = Resolver { allow_private };
        let client = Client::builder()
            .timeout(DEADLINE)
            .redirect(Policy::none())
            .no_proxy()
            .dns_resolver(addresses)
            .pool_max_idle_per_host(4)
            .user_agent(concat!("orderly-notification/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, addresses })
    }

    async fn call(&self, notification: &Claimed, webhook: &Webhook) -> Result<(), CallError> {
        let url = webhook.url.url();
        let span = Span::current();
        span.record("server.address", url.host_str())
            .record("server.port", url.port_or_known_default().map(i64::from));
        // Of an address that needs no lookup the resolver hears nothing.
        self.addresses.check(url)?;
        let body = serde_json::to_string(&Payload::of(notification)).map_err(CallError::build)?;
        let id = notification.notification_id.to_string();
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let request = self
            .client
            .post(url.clone())
            .header("content-type", "application/json")
            .header("webhook-signature", sign(&webhook.secret, &id, timestamp, &body)?)
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .body(body);
        let current = telemetry::propagation::current();
        let context = telemetry::propagation::write(&current);
        let request = context.fold(request, |request, (name, value)| request.header(name, value));
        let answer = request.send().await?;
        let status = answer.status();
        span.record("http.response.status_code", i64::from(status.as_u16()));
        skim(answer).await;
        if status.is_success() { Ok(()) } else { Err(CallError::Answered(status)) }
    }
}

impl Medium for Webhooks {
    const CHANNEL: &'static str = Channel::WEBHOOK;
    const NAME: &'static str = "webhooks";
    /// Many: some endpoints are always slow.
    const CONCURRENCY: usize = 64;
    type Error = CallError;

    /// By the semantic conventions for HTTP clients, but without `url.full`: customers put secrets into the path and the
    /// query of their URLs. <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client-span>
    fn span(&self, notification: &Claimed) -> Span {
        info_span!(
            "POST",
            otel.kind = "client",
            otel.status_code = Empty,
            http.request.method = "POST",
            http.request.resend_count = (notification.attempts > 1).then(|| notification.attempts - 1),
            http.response.status_code = Empty,
            server.address = Empty,
            server.port = Empty,
            error.type = Empty,
            order_id = %notification.order_id,
            notification_id = %notification.notification_id,
            attempt = notification.attempts,
        )
    }

    async fn deliver(&self, notification: &Claimed) -> Result<(), CallError> {
        match notification.contact.channel() {
            Ok(Channel::Webhook(webhook)) => self.call(notification, &webhook).await,
            Ok(_) => Err(CallError::build(Invalid("channel is another one"))),
            Err(error) => Err(CallError::build(error)),
        }
    }
}

impl<'n> Payload<'n> {
    fn of(notification: &'n Claimed) -> Self {
        let Claimed { notification_id, order_id, customer_id, kind, subject, body, created_at, .. } =
            notification;
        Self {
            // ORDER_CONFIRMED is order.confirmed.
            r#type: kind.to_ascii_lowercase().replacen('_', ".", 1),
            timestamp: *created_at,
            data: Data {
                notification_id: *notification_id,
                order_id: *order_id,
                customer_id,
                kind,
                subject,
                body,
            },
        }
    }
}

/// The value of `webhook-signature`.
fn sign(secret: &WebhookSecret, id: &str, timestamp: u64, body: &str) -> Result<String, CallError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.key()).map_err(CallError::build)?;
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    Ok(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
}

/// Reads the answer's body as far as it is worth it; the status has said everything.
async fn skim(mut answer: Response) {
    let mut left = MAX_ANSWER;
    while let Ok(Some(bytes)) = answer.chunk().await {
        match left.checked_sub(bytes.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

impl CallError {
    fn build(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Build(error.into())
    }
}

impl Failure for CallError {
    fn kind(&self) -> Cow<'static, str> {
        match self {
            Self::Answered(status) => status.as_u16().to_string().into(),
            Self::Lost(error) if error.is_timeout() => "timeout".into(),
            Self::Lost(error) if error.is_connect() => "connect".into(),
            Self::Lost(_) => "connection_lost".into(),
            Self::Private => "private_address".into(),
            Self::Build(_) => "invalid_call".into(),
        }
    }

    /// 4xx says that the call is wrong, unless it says only that it came at the wrong time.
    fn is_permanent(&self) -> bool {
        match self {
            Self::Answered(status) => {
                let passes =
                    [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
                status.is_client_error() && !passes.contains(status)
            }
            Self::Lost(_) => false,
            Self::Private | Self::Build(_) => true,
        }
    }

    /// Never that all webhooks are down: each customer has another endpoint, and one that is down waits by itself.
    fn performed(&self) -> Performed {
        match self {
            Self::Answered(_) => Performed::Answered,
            Self::Lost(_) | Self::Private | Self::Build(_) => Performed::Unasked,
        }
    }
}

impl From<reqwest::Error> for CallError {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let first: &dyn std::error::Error = &error;
        let mut causes = std::iter::successors(Some(first), |cause| cause.source());
        if causes.any(|cause| cause.is::<Private>()) { Self::Private } else { Self::Lost(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's libraries.
    #[test]
    fn a_call_is_signed_as_the_specification_says() -> Result<(), Box<dyn std::error::Error>> {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse()?;
        let signature =
            sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#)?;
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        Ok(())
    }

    #[test]
    fn a_refusal_is_one_that_trying_again_does_not_mend() -> Result<(), Box<dyn std::error::Error>> {
        let permanent = |status| Ok::<_, reqwest::Error>(CallError::Answered(status).is_permanent());
        for status in [400, 401, 403, 404, 405, 410, 413, 422] {
            assert!(permanent(StatusCode::from_u16(status)?)?, "{status}");
        }
        for status in [301, 302, 307, 408, 425, 429, 500, 502, 503, 504] {
            assert!(!permanent(StatusCode::from_u16(status)?)?, "{status}");
        }
        Ok(())
    }
}

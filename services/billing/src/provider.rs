//! The payment provider's HTTP API. Every call carries the payment id as its idempotency key, so asking again is safe.
//!
//! An answer is final only when it says so in the provider's own words, of which `REFUSALS` is the whole list: any
//! other 4xx or 5xx, a lost connection or an unreadable body leave the outcome unknown.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use reqwest::{Client, StatusCode, Url, redirect::Policy};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tracing::{Instrument as _, Span, field::Empty, info_span};
use uuid::Uuid;

use crate::{
    domain::{Failure, Money},
    store::Intent,
};

/// An answer is a reference and an amount.
const MAX_BODY: usize = 16 * 1024;
const MAX_REFERENCE: usize = 255;
/// How the provider refuses a charge for good. What stands between us and it (a proxy's `rate_limited`) uses the same
/// statuses, and `invalid_request` is our own fault: neither says that the customer will not pay.
const REFUSALS: [(StatusCode, &str, Failure); 3] = [
    (StatusCode::PAYMENT_REQUIRED, "card_declined", Failure::Declined),
    (StatusCode::PAYMENT_REQUIRED, "insufficient_funds", Failure::InsufficientFunds),
    (StatusCode::BAD_REQUEST, "unknown_token", Failure::Declined),
];

/// What a charge is taken from. Never shown.
#[derive(Clone)]
pub struct PaymentToken(String);

impl PaymentToken {
    /// Wraps a token.
    pub fn new(token: String) -> Self {
        Self(token)
    }

    /// The token itself, for the database and the provider only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PaymentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PaymentToken(..)")
    }
}

/// Where the provider is: an `http` URL without user name, query or fragment.
#[derive(Clone)]
pub struct ProviderUrl(Url);

impl fmt::Debug for ProviderUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl FromStr for ProviderUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
        if url.scheme() != "http" {
            return Err(
                "must start with http:// (this build speaks no TLS: put a TLS proxy on loopback)".to_owned()
            );
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not carry a user name or password".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must have no query and no fragment".to_owned());
        }
        Ok(Self(url))
    }
}

/// A final answer to a charge.
#[derive(Debug, PartialEq, Eq)]
pub enum Charged {
    /// Taken.
    Succeeded {
        /// The provider's reference.
        reference: String,
    },
    /// Not taken, and never will be.
    Refused(Failure),
}

/// Why the outcome of a call is unknown. Ask again with the same key.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// No connection, no answer in time, or a broken one.
    #[error("provider gave no answer")]
    Lost(#[from] reqwest::Error),
    /// Another status than a final one.
    #[error("provider answered {status} {code:?}")]
    Status {
        /// HTTP status.
        status: StatusCode,
        /// The provider's own code; empty where there was none.
        code: String,
    },
    /// The status is final, the body is not what it promises.
    #[error("provider answered {status} with a body that is not its own")]
    Body {
        /// HTTP status.
        status: StatusCode,
    },
    /// The provider gave back another amount than it took; an operator must look.
    #[error("provider gave back {minor} {currency}, which is not what it took")]
    Amount {
        /// What it says it gave back.
        minor: i64,
        /// In this currency.
        currency: String,
    },
}

/// A client of the provider; cheap to clone.
#[derive(Clone, Debug)]
pub struct Provider {
    client: Client,
    charges: Url,
    refunds: Url,
}

#[derive(Serialize)]
struct ChargeRequest<'a> {
    payment_id: Uuid,
    order_id: Uuid,
    amount: Amount<'a>,
    token: &'a str,
}

#[derive(Serialize)]
struct Amount<'a> {
    currency: &'a str,
    minor: i64,
}

#[derive(Serialize)]
struct RefundRequest {
    payment_id: Uuid,
    order_id: Uuid,
}

#[derive(Deserialize)]
struct ChargeAnswer {
    reference: String,
}

#[derive(Deserialize)]
struct RefundAnswer {
    refunded: Returned,
}

#[derive(Deserialize)]
struct Returned {
    currency: String,
    minor: i64,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    code: String,
}

impl Provider {
    /// A client that waits at most `timeout` for a whole answer and follows no redirect.
    pub fn new(url: &ProviderUrl, timeout: Duration) -> Result<Self, reqwest::Error> {
        let client = Client::builder().timeout(timeout).redirect(Policy::none()).build()?;
        Ok(Self { client, charges: path(url, "charges"), refunds: path(url, "refunds") })
    }

    /// Takes the amount once, however often it is called for one payment.
    pub async fn charge(&self, intent: &Intent) -> Result<Charged, Unknown> {
        let Money { currency, minor } = &intent.amount;
        let request = ChargeRequest {
            payment_id: intent.payment_id,
            order_id: intent.order_id,
            amount: Amount { currency, minor: *minor },
            token: intent.token.expose(),
        };
        self.post(&self.charges, intent, &request, interpret_charge).await
    }

    /// Gives the whole amount back once, however often it is called for one payment.
    pub async fn refund(&self, intent: &Intent) -> Result<(), Unknown> {
        let request = RefundRequest { payment_id: intent.payment_id, order_id: intent.order_id };
        let interpret = |status, body: &[u8]| interpret_refund(status, body, &intent.amount);
        self.post(&self.refunds, intent, &request, interpret).await
    }

    /// One call, in a span by the semantic conventions for HTTP clients:
    /// <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client-span>. They let whoever knows better than
    /// the status code say whether a call has failed: a charge that the provider refuses in its own words is an answered
    /// question, and everything that leaves the outcome unknown is a failure, also behind a 200.
    async fn post<T>(
        &self,
        url: &Url,
        intent: &Intent,
        body: &impl Serialize,
        interpret: impl FnOnce(StatusCode, &[u8]) -> Result<T, Unknown>,
    ) -> Result<T, Unknown> {
        let span = info_span!(
            "POST",
            otel.kind = "client",
            otel.status_code = Empty,
            http.request.method = "POST",
            http.request.resend_count = (intent.attempts > 1).then(|| intent.attempts - 1),
            http.response.status_code = Empty,
            server.address = url.host_str(),
            server.port = url.port_or_known_default().map(i64::from),
            // It has neither a user name nor a query.
            url.full = url.as_str(),
            error.type = Empty,
        );
        let answered = async {
            let (status, body) = self.exchange(url, intent.payment_id, body).await?;
            interpret(status, &body)
        };
        let answered = answered.instrument(span.clone()).await;
        if let Err(error) = &answered {
            span.record("otel.status_code", "ERROR").record("error.type", error.kind().as_ref());
        }
        answered
    }

    /// The provider's answer, of a bounded size.
    async fn exchange(
        &self,
        url: &Url,
        payment_id: Uuid,
        body: &impl Serialize,
    ) -> Result<(StatusCode, Vec<u8>), Unknown> {
        let request =
            self.client.post(url.clone()).json(body).header("idempotency-key", payment_id.to_string());
        let span = telemetry::propagation::current();
        let context = telemetry::propagation::write(&span);
        let request = context.fold(request, |request, (name, value)| request.header(name, value));
        let mut response = request.send().await?;
        let status = response.status();
        Span::current().record("http.response.status_code", i64::from(status.as_u16()));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(Unknown::Body { status });
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    }
}

impl Unknown {
    /// Of the few kinds of failure that spans tell apart (`error.type`), the one that this is.
    pub fn kind(&self) -> Cow<'static, str> {
        match self {
            Self::Lost(error) if error.is_timeout() => "timeout".into(),
            Self::Lost(error) if error.is_connect() => "connect".into(),
            Self::Lost(_) => "connection_lost".into(),
            Self::Status { status, .. } => status.as_u16().to_string().into(),
            Self::Body { .. } => "invalid_body".into(),
            Self::Amount { .. } => "other_amount".into(),
        }
    }
}

fn path(url: &ProviderUrl, name: &str) -> Url {
    let mut url = url.0.clone();
    let path = format!("{}/v1/{name}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

fn interpret_charge(status: StatusCode, body: &[u8]) -> Result<Charged, Unknown> {
    if status == StatusCode::CREATED {
        let ChargeAnswer { reference } = parse(status, body)?;
        // It will be stored: what the database would refuse is no reference.
        if reference.is_empty() || reference.len() > MAX_REFERENCE || reference.contains('\0') {
            return Err(Unknown::Body { status });
        }
        return Ok(Charged::Succeeded { reference });
    }
    let code = code(body);
    match REFUSALS.iter().find(|(known, word, _)| (*known, *word) == (status, code.as_str())) {
        Some((_, _, failure)) => Ok(Charged::Refused(*failure)),
        None => Err(not_final(status, code)),
    }
}

fn interpret_refund(status: StatusCode, body: &[u8], taken: &Money) -> Result<(), Unknown> {
    if status != StatusCode::OK {
        return Err(not_final(status, code(body)));
    }
    let RefundAnswer { refunded: Returned { currency, minor } } = parse(status, body)?;
    if minor == taken.minor && currency == taken.currency {
        Ok(())
    } else {
        Err(Unknown::Amount { minor, currency })
    }
}

fn not_final(status: StatusCode, code: String) -> Unknown {
    Unknown::Status { status, code: code.chars().take(64).collect() }
}

/// The code of an answer that is no success; empty where it has none.
fn code(body: &[u8]) -> String {
    serde_json::from_slice::<ErrorAnswer>(body).map_or_else(|_| String::new(), |answer| answer.code)
}

fn parse<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, Unknown> {
    serde_json::from_slice(body).map_err(|_| Unknown::Body { status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_providers_own_words_decide_a_charge() {
        let charge = |status: u16, body: &str| {
            interpret_charge(StatusCode::from_u16(status).expect("a status"), body.as_bytes()).ok()
        };
        let taken = Charged::Succeeded { reference: "ch_1".to_owned() };
        assert_eq!(charge(201, r#"{"reference":"ch_1","status":"succeeded"}"#), Some(taken));
        assert_eq!(charge(402, r#"{"code":"card_declined"}"#), Some(Charged::Refused(Failure::Declined)));
        assert_eq!(
            charge(402, r#"{"code":"insufficient_funds"}"#),
            Some(Charged::Refused(Failure::InsufficientFunds))
        );
        assert_eq!(charge(400, r#"{"code":"unknown_token"}"#), Some(Charged::Refused(Failure::Declined)));
        for (status, body) in [
            (201, "{}"),
            (201, r#"{"reference":""}"#),
            (200, "ok"),
            (302, ""),
            (400, "<html>of a proxy</html>"),
            (400, r#"{"code":"rate_limited"}"#),
            (400, r#"{"code":"invalid_request"}"#),
            (400, r#"{"code":"card_declined"}"#),
            (402, r#"{"code":"quota_exceeded"}"#),
            (402, r#"{"code":"unknown_token"}"#),
            (402, r#"{"code":""}"#),
            (402, r#"{"message":"card_declined"}"#),
            (404, r#"{"code":"not_found"}"#),
            (409, r#"{"code":"idempotency_mismatch"}"#),
            (429, ""),
            (503, r#"{"code":"unavailable"}"#),
        ] {
            assert_eq!(charge(status, body), None, "{status} {body}");
        }
    }

    #[test]
    fn a_refund_is_done_when_the_whole_amount_is_back() {
        let taken = Money { currency: "EUR".to_owned(), minor: 4999 };
        let refund = |status, body: &str| interpret_refund(status, body.as_bytes(), &taken).is_ok();
        let whole = r#"{"reference":"re_1","refunded":{"currency":"EUR","minor":4999}}"#;
        assert!(refund(StatusCode::OK, whole));
        assert!(!refund(StatusCode::OK, r#"{"reference":"re_1","refunded":{"currency":"EUR","minor":1}}"#));
        assert!(!refund(StatusCode::NOT_FOUND, r#"{"code":"charge_not_found"}"#));
        assert!(!refund(StatusCode::SERVICE_UNAVAILABLE, whole));
    }

    #[test]
    fn the_provider_url_is_plain_http() {
        let parse = |text: &str| text.parse::<ProviderUrl>();
        let url = parse("http://127.0.0.1:9201/sandbox/").expect("a URL");
        assert_eq!(path(&url, "charges").as_str(), "http://127.0.0.1:9201/sandbox/v1/charges");
        for wrong in
            ["127.0.0.1:9201", "ftp://h", "https://h", "http://u:p@h", "http://h?a=b", "http://h#a", ""]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        assert_eq!(format!("{:?}", PaymentToken::new("tok_ok".to_owned())), "PaymentToken(..)");
    }
}

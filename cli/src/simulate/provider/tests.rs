use std::{net::SocketAddr, path::PathBuf};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::*;

const QUICK: Settings = Settings { latency: Duration::ZERO, jitter: Duration::ZERO, outage: false };

struct Running {
    address: SocketAddr,
    client: reqwest::Client,
    ledger: PathBuf,
    stop: CancellationToken,
    server: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn start(directory: &Path) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, stop) = (listener.local_addr()?, CancellationToken::new());
        let ledger = directory.join("provider.ndjson");
        let server = tokio::spawn({
            let (ledger, stop) = (ledger.clone(), stop.clone());
            async move { serve(listener, &ledger, QUICK, stop).await }
        });
        Ok(Self { address, client: reqwest::Client::new(), ledger, stop, server })
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.server.await?
    }

    async fn post(&self, path: &str, key: Uuid, body: &Value) -> anyhow::Result<(StatusCode, Value)> {
        let url = format!("http://{}{path}", self.address);
        let response =
            self.client.post(url).header("Idempotency-Key", key.to_string()).json(body).send().await?;
        Ok((response.status(), response.json().await?))
    }

    async fn charge(&self, payment: Uuid, token: &str) -> anyhow::Result<(StatusCode, Value)> {
        self.post("/v1/charges", payment, &request(payment, token)).await
    }

    fn lines(&self) -> anyhow::Result<Vec<Value>> {
        let text = std::fs::read_to_string(&self.ledger)?;
        Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }
}

/// The order has the id of the payment: one id less to carry around.
fn request(payment: Uuid, token: &str) -> Value {
    json!({ "payment_id": payment, "order_id": payment, "amount": { "currency": "EUR", "minor": 4999 }, "token": token })
}

fn refund(payment: Uuid) -> Value {
    json!({ "payment_id": payment, "order_id": payment })
}

#[tokio::test]
async fn charges_once_for_concurrent_calls_with_one_key() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let provider = Running::start(directory.path()).await?;
    let payment = Uuid::now_v7();
    let answers = futures_of(20, || provider.charge(payment, "tok_ok")).await?;

    let (_, first) = &answers[0];
    assert_eq!(first["status"], "succeeded");
    assert!(answers.iter().all(|(status, answer)| *status == StatusCode::CREATED && answer == first));
    assert_eq!(provider.lines()?.len(), 1);
    provider.stop().await
}

#[tokio::test]
async fn repeats_every_final_answer_after_a_restart() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let payments = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
    let tokens = ["tok_ok", "tok_declined", "tok_insufficient_funds"];
    let mut rounds = Vec::new();
    for _ in 0..2 {
        let provider = Running::start(directory.path()).await?;
        let mut round = Vec::new();
        for (payment, token) in payments.into_iter().zip(tokens) {
            round.push(provider.charge(payment, token).await?);
        }
        for payment in payments {
            round.push(provider.post("/v1/refunds", payment, &refund(payment)).await?);
        }
        rounds.push(round);
        assert_eq!(provider.lines()?.len(), 4, "three decisions and a refund");
        provider.stop().await?;
    }
    assert_eq!(rounds[0], rounds[1]);
    let [charged, declined, poor, refunded, nothing, _] = &rounds[0][..] else {
        anyhow::bail!("six answers")
    };
    assert_eq!(charged.0, StatusCode::CREATED);
    assert_eq!((declined.0, &declined.1["code"]), (StatusCode::PAYMENT_REQUIRED, &json!("card_declined")));
    assert_eq!((poor.0, &poor.1["code"]), (StatusCode::PAYMENT_REQUIRED, &json!("insufficient_funds")));
    assert_eq!((refunded.0, &refunded.1["refunded"]["minor"]), (StatusCode::OK, &json!(4999)));
    assert_eq!((nothing.0, &nothing.1["code"]), (StatusCode::NOT_FOUND, &json!("charge_not_found")));
    Ok(())
}

#[tokio::test]
async fn loses_one_answer_after_charging_and_remembers_it_over_a_restart() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let payment = Uuid::now_v7();
    let provider = Running::start(directory.path()).await?;
    assert!(provider.charge(payment, "tok_timeout_once").await.is_err(), "the connection closes");
    assert_eq!(provider.lines()?[0]["lost_answer"], true);
    provider.stop().await?;

    let provider = Running::start(directory.path()).await?;
    let (status, answer) = provider.charge(payment, "tok_timeout_once").await?;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(answer["reference"], provider.lines()?[0]["reference"]);
    assert_eq!(provider.lines()?.len(), 1);
    provider.stop().await
}

#[tokio::test]
async fn refuses_everything_during_an_outage_and_one_payment_when_down() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let provider = Running::start(directory.path()).await?;
    let payment = Uuid::now_v7();
    assert_eq!(provider.charge(payment, "tok_provider_down").await?.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(provider.charge(payment, "tok_ok").await?.0, StatusCode::CREATED);

    let outage = format!("http://{}/v1/outage", provider.address);
    provider.client.put(&outage).json(&json!({ "on": true })).send().await?.error_for_status()?;
    assert_eq!(provider.client.get(&outage).send().await?.json::<Value>().await?, json!({ "on": true }));
    assert_eq!(provider.charge(payment, "tok_ok").await?.0, StatusCode::SERVICE_UNAVAILABLE);
    let refunded = provider.post("/v1/refunds", payment, &refund(payment)).await?;
    assert_eq!(refunded.0, StatusCode::SERVICE_UNAVAILABLE);

    provider.client.put(&outage).json(&json!({ "on": false })).send().await?.error_for_status()?;
    assert_eq!(provider.charge(payment, "tok_ok").await?.0, StatusCode::CREATED);
    provider.stop().await
}

#[tokio::test]
async fn refuses_a_key_that_is_used_for_another_request() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let provider = Running::start(directory.path()).await?;
    let payment = Uuid::now_v7();
    provider.charge(payment, "tok_ok").await?;
    for (pointer, value) in [
        ("/token", json!("tok_declined")),
        ("/amount/minor", json!(1)),
        ("/amount/currency", json!("USD")),
        ("/order_id", json!(Uuid::now_v7())),
    ] {
        let mut other = request(payment, "tok_ok");
        *other.pointer_mut(pointer).ok_or_else(|| anyhow::anyhow!("no {pointer}"))? = value;
        let (status, answer) = provider.post("/v1/charges", payment, &other).await?;
        assert_eq!(
            (status, &answer["code"]),
            (StatusCode::CONFLICT, &json!("idempotency_mismatch")),
            "{pointer}"
        );
    }
    let (status, _) = provider
        .post("/v1/refunds", payment, &json!({ "payment_id": payment, "order_id": Uuid::now_v7() }))
        .await?;
    assert_eq!(status, StatusCode::CONFLICT);
    provider.stop().await
}

#[tokio::test]
async fn refuses_rubbish_with_a_code_and_writes_nothing() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let provider = Running::start(directory.path()).await?;
    let payment = Uuid::now_v7();
    for (pointer, value) in [
        ("/amount/minor", json!(0)),
        ("/amount/minor", json!(-1)),
        ("/amount/minor", json!(0.5)),
        ("/amount/currency", json!("eur")),
        ("/payment_id", json!(Uuid::now_v7())),
        ("/order_id", json!("x")),
        ("/token", json!(7)),
    ] {
        let mut body = request(payment, "tok_ok");
        *body.pointer_mut(pointer).ok_or_else(|| anyhow::anyhow!("no {pointer}"))? = value;
        let (status, answer) = provider.post("/v1/charges", payment, &body).await?;
        assert_eq!(
            (status, &answer["code"]),
            (StatusCode::BAD_REQUEST, &json!("invalid_request")),
            "{pointer}"
        );
    }
    let (status, answer) = provider.charge(payment, "tok_stolen").await?;
    assert_eq!((status, &answer["code"]), (StatusCode::BAD_REQUEST, &json!("unknown_token")));
    let (status, _) = provider.charge(payment, &"x".repeat(20_000)).await?;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(provider.lines()?.is_empty());
    provider.stop().await
}

/// Runs `count` calls at once.
async fn futures_of<T, F: Future<Output = anyhow::Result<T>>>(
    count: usize,
    call: impl Fn() -> F,
) -> anyhow::Result<Vec<T>> {
    futures_util::future::try_join_all((0..count).map(|_| call())).await
}

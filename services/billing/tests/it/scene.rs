//! Billing's parts on a database of their own, with a provider that answers from a script.

use std::time::Duration;

use billing::{
    Billing, app::Payments, domain::Payment, handlers::PaymentRequests, metrics::Metrics, provider::Provider,
    store::Intent,
};
use consumer::{Handler as _, Message, dispatch::Dispatch as _};
use outbox::{Headers, UnitOfWork};
use proto::{
    billing::v1::{PaymentRequested, RefundRequested},
    money::v1::Money,
};
use sqlx::PgPool;
use testkit::Database;
use uuid::Uuid;

use crate::provider::Script;

/// The charge is taken.
pub const CHARGED: (u16, &str) = (201, r#"{"reference":"ch_1","status":"succeeded"}"#);
/// The amount is given back.
pub const REFUNDED: (u16, &str) = (200, r#"{"reference":"re_1","refunded":{"currency":"EUR","minor":4999}}"#);
/// The charge is refused for good.
pub const DECLINED: (u16, &str) = (402, r#"{"code":"card_declined"}"#);
/// Nobody knows.
pub const UNAVAILABLE: (u16, &str) = (503, r#"{"code":"unavailable"}"#);

/// One test's world, with one order.
pub struct Scene {
    /// As the service.
    pub pool: PgPool,
    /// For what the service itself may not do.
    pub owner: PgPool,
    /// What is tested.
    pub payments: Payments,
    /// What consumes the requests.
    pub handler: PaymentRequests,
    /// What billing shows of itself.
    pub metrics: telemetry::Metrics,
    /// The provider.
    pub script: Script,
    /// The order's payment.
    pub payment_id: Uuid,
    /// The order.
    pub order_id: Uuid,
    _database: Database,
}

impl Scene {
    /// With a provider that gives these answers.
    pub async fn set(answers: &[(u16, &'static str)]) -> anyhow::Result<Self> {
        let database = Database::create::<Billing>().await?;
        let (script, address) = Script::listen(answers).await?;
        let url = format!("http://{address}").parse().map_err(anyhow::Error::msg)?;
        let provider = Provider::new(&url, Duration::from_secs(5))?;
        let pool = database.app().await?;
        let metrics = telemetry::Metrics::new();
        let payments = Payments::new(pool.clone(), provider, Metrics::register(&metrics));
        Ok(Self {
            handler: PaymentRequests::new(&payments),
            payments,
            metrics,
            pool,
            owner: database.superuser().await?,
            script,
            payment_id: Uuid::now_v7(),
            order_id: Uuid::now_v7(),
            _database: database,
        })
    }

    /// As the service.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// An event about this scene's order.
    pub fn request(&self) -> PaymentRequested {
        PaymentRequested {
            payment_id: self.payment_id.to_string(),
            order_id: self.order_id.to_string(),
            customer_id: "cust-1".to_owned(),
            amount: Some(Money { currency: "EUR".to_owned(), minor: 4999 }),
            payment_token: "tok_ok".to_owned(),
            not_after: None,
        }
    }

    /// Has the order's payment requested.
    pub async fn ask_for_payment(&self) -> anyhow::Result<()> {
        self.handle(&self.request()).await
    }

    /// Has the order's refund requested.
    pub async fn ask_for_refund(&self) -> anyhow::Result<()> {
        let refund = RefundRequested {
            payment_id: self.payment_id.to_string(),
            order_id: self.order_id.to_string(),
            customer_id: "cust-1".to_owned(),
        };
        self.handle(&refund).await
    }

    /// One record with this event, as the consumer does it.
    pub async fn handle<M: prost::Message + prost::Name>(&self, event: &M) -> anyhow::Result<()> {
        self.handle_message(&self.message(event)).await
    }

    /// A record of `payment-requests`.
    pub fn message<M: prost::Message + prost::Name>(&self, event: &M) -> Message {
        Message {
            topic: "payment-requests".to_owned(),
            partition: 0,
            offset: 0,
            key: Some(self.order_id.to_string().into_bytes()),
            headers: Headers::default(),
            payload: Some(event.encode_to_vec()),
            timestamp: None,
            span: None,
            source: "/orderly/order".to_owned(),
            id: Uuid::now_v7(),
            event_type: M::full_name(),
        }
    }

    /// As the consumer does: effects and events in one transaction.
    pub async fn handle_message(&self, message: &Message) -> anyhow::Result<()> {
        let mut work = UnitOfWork::begin(self.pool()).await?;
        let events = self.handler.handle(&mut work, message).await?;
        work.commit(events).await?;
        self.handler.committed(&[message]);
        Ok(())
    }

    /// The same in a transaction that ends with nothing.
    pub async fn roll_back(&self, message: &Message) -> anyhow::Result<()> {
        let mut work = UnitOfWork::begin(self.pool()).await?;
        self.handler.handle(&mut work, message).await?;
        Ok(())
    }

    /// Looks once at what is owed.
    pub async fn look(&self) -> anyhow::Result<()> {
        let stop = tokio_util::sync::CancellationToken::new();
        stop.cancel();
        self.payments.metrics().watch(&self.pool, stop).await;
        Ok(())
    }

    /// Claims what is due, however long its backoff still is.
    pub async fn due(&self) -> anyhow::Result<Vec<Intent>> {
        sqlx::query("UPDATE payments SET next_attempt_at = now()").execute(self.pool()).await?;
        Ok(self.payments.claim(10).await?)
    }

    /// Claims what is due, however long its backoff still is, and performs it. Returns how much that was.
    pub async fn dispatch(&self) -> anyhow::Result<usize> {
        let intents = self.due().await?;
        let count = intents.len();
        for intent in intents {
            self.payments.perform(intent).await?;
        }
        Ok(count)
    }

    /// The value that `/metrics` shows of a time series.
    pub fn shown(&self, series: &str) -> f64 {
        let text = self.metrics.text();
        let sample = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        sample.and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
    }

    /// The payment as it is.
    pub async fn payment(&self) -> anyhow::Result<Payment> {
        Ok(self.payments.payment(self.payment_id).await?)
    }

    /// Every event so far: its version and type.
    pub async fn events(&self) -> anyhow::Result<Vec<String>> {
        let rows: Vec<(i64, String, Vec<u8>)> =
            sqlx::query_as("SELECT sequence, topic, headers FROM outbox.event ORDER BY id")
                .fetch_all(&self.owner)
                .await?;
        rows.into_iter()
            .map(|(sequence, topic, headers)| {
                let headers = Headers::decode(&headers)?;
                let name =
                    headers.text("ce_type").and_then(|name| name.rsplit('.').next()).unwrap_or_default();
                Ok(format!("{topic} {sequence} {name}"))
            })
            .collect()
    }

    /// How many postings there are, and their sum.
    pub async fn ledger(&self) -> anyhow::Result<(i64, i64)> {
        let sql = "SELECT count(*), coalesce(sum(minor), 0)::bigint FROM ledger_postings";
        Ok(sqlx::query_as(sql).fetch_one(&self.owner).await?)
    }

    /// What the payment is taken from, as far as it is kept.
    pub async fn token(&self) -> anyhow::Result<Option<String>> {
        Ok(sqlx::query_scalar("SELECT payment_token FROM payments").fetch_one(self.pool()).await?)
    }
}

//! The service's parts on a database of their own, a mail server, and a customer's endpoint.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use consumer::{HandleError, Handler as _, KafkaArgs, Message, Metrics, Undelivered, dispatch::Dispatch};
use notification::{
    Notification,
    api::Api,
    app,
    dispatch::{Deliveries, Lines},
    domain::{Channel, Kind, Webhook},
    handlers::{Handlers, SUBSCRIPTION},
    mail::Mailer,
    metrics,
    webhook::Webhooks,
};
use outbox::{Headers, UnitOfWork};
use prost::{Message as _, Name as _};
use proto::notification::v1::{NotificationKind, NotificationRequested};
use sqlx::PgPool;
use testkit::Database;
use uuid::Uuid;

use crate::{
    endpoint::{Endpoint, Reply},
    smtp::{Answer, Smtp},
};

/// Whom it is all about.
pub const CUSTOMER: &str = "cust-1";
/// Where they want their e-mails.
pub const ADDRESS: &str = "ann@example.com";

/// What their webhook's calls are signed with.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// How long anything is tried.
const GIVE_UP_AFTER: Duration = Duration::from_secs(86_400);

/// One test's world.
pub struct Scene {
    /// As the service.
    pub pool: PgPool,
    /// What writes lines.
    pub lines: Arc<Lines>,
    /// What sends e-mails.
    pub emails: Arc<Deliveries<Mailer>>,
    /// What calls webhooks.
    pub webhooks: Arc<Deliveries<Webhooks>>,
    /// What is counted.
    pub metrics: metrics::Metrics,
    /// What the service shows of itself.
    pub shown: telemetry::Metrics,
    /// What takes the e-mails.
    pub smtp: Smtp,
    /// What takes the webhooks' calls, and where.
    pub endpoint: (Endpoint, SocketAddr),
    /// The order of [`Scene::request`].
    pub order_id: Uuid,
    /// Where it all is.
    pub database: Database,
}

impl Scene {
    /// With a mail server that gives these answers.
    pub async fn set(answers: &[Answer]) -> anyhow::Result<Self> {
        let database = Database::create::<Notification>().await?;
        let pool = database.app().await?;
        let (smtp, address) = Smtp::listen(answers).await?;
        let mailer = Mailer::new(address.to_string().parse()?, "orders@orderly.example".parse()?);
        let shown = telemetry::Metrics::new();
        let metrics = metrics::Metrics::register(&shown);
        let scene = Self {
            lines: Arc::new(Lines { pool: pool.clone(), metrics: metrics.clone() }),
            emails: deliveries(&pool, mailer, &metrics),
            webhooks: deliveries(&pool, Webhooks::new(true)?, &metrics),
            metrics,
            shown,
            smtp,
            endpoint: Endpoint::listen(&[]).await?,
            order_id: Uuid::now_v7(),
            pool,
            database,
        };
        Ok(scene)
    }

    /// With an endpoint that gives these replies, whose customer chose it.
    pub async fn set_webhook(replies: &[Reply]) -> anyhow::Result<Self> {
        let scene = Self::set(&[]).await?;
        scene.endpoint.0.will(replies);
        scene.choose_webhook(&format!("http://{}/orders?customer=7", scene.endpoint.1)).await?;
        Ok(scene)
    }

    /// The server side of gRPC.
    pub fn api(&self) -> Api {
        Api { pool: self.pool.clone() }
    }

    /// From now on the customer is told by e-mail.
    pub async fn choose_email(&self) -> anyhow::Result<()> {
        self.choose(&Channel::Email(ADDRESS.parse()?)).await
    }

    /// From now on the customer is told by a webhook.
    pub async fn choose_webhook(&self, url: &str) -> anyhow::Result<()> {
        self.choose(&Channel::Webhook(Webhook { url: url.parse()?, secret: SECRET.parse()? })).await
    }

    /// From now on the customer is told in this way.
    pub async fn choose(&self, channel: &Channel) -> anyhow::Result<()> {
        Ok(app::update_settings(&self.pool, &CUSTOMER.parse()?, channel).await?)
    }

    /// An event of this scene's order.
    pub fn request(&self, kind: Kind) -> NotificationRequested {
        let kind = match kind {
            Kind::PaymentReceipt => NotificationKind::PaymentReceipt,
            Kind::OrderConfirmed => NotificationKind::OrderConfirmed,
            Kind::OrderRejected => NotificationKind::OrderRejected,
            Kind::OrderCancelled => NotificationKind::OrderCancelled,
            Kind::OrderRefunded => NotificationKind::OrderRefunded,
            Kind::OrderShipped => NotificationKind::OrderShipped,
        };
        NotificationRequested {
            order_id: self.order_id.to_string(),
            customer_id: CUSTOMER.to_owned(),
            kind: kind.into(),
            amount: Some(proto::money::v1::Money { currency: "EUR".to_owned(), minor: 4999 }),
            reason: String::new(),
        }
    }

    /// Has this scene's order told about.
    pub async fn ask(&self, kind: Kind) -> anyhow::Result<()> {
        Ok(self.handle(&NotificationRequested::full_name(), self.request(kind).encode_to_vec()).await?)
    }

    /// One record about this scene's order.
    pub async fn handle(&self, event_type: &str, payload: Vec<u8>) -> Result<(), HandleError> {
        self.handle_record(&record(event_type, self.order_id, payload)).await
    }

    /// One record, as the consumer does it when its batch has failed: in one transaction.
    pub async fn handle_record(&self, message: &Message) -> Result<(), HandleError> {
        let mut work = UnitOfWork::begin(&self.pool).await.expect("a transaction");
        let events = Handlers.handle(&mut work, message).await?;
        assert!(events.is_empty(), "this service makes no events");
        work.commit(events).await.expect("committed");
        Ok(())
    }

    /// The records of a batch, as the consumer does it: in one transaction.
    pub async fn handle_all(&self, messages: &[Message]) -> Result<(), HandleError> {
        let messages: Vec<&Message> = messages.iter().collect();
        let mut work = UnitOfWork::begin(&self.pool).await.expect("a transaction");
        let events = Handlers.handle_all(&mut work, &messages).await?;
        assert!(events.is_empty(), "this service makes no events");
        work.commit(events).await.expect("committed");
        Ok(())
    }

    /// Claims what is due and delivers it. Returns how much that was.
    pub async fn dispatch(&self) -> anyhow::Result<usize> {
        let lines = self.lines.claim(1).await?;
        let count = lines.iter().map(Vec::len).sum::<usize>();
        for batch in lines {
            self.lines.perform(batch).await?;
        }
        Ok(count + dispatch(&*self.emails).await? + dispatch(&*self.webhooks).await?)
    }

    /// The value that `/metrics` shows of a time series.
    pub fn shows(&self, series: &str) -> f64 {
        let text = self.shown.text();
        let sample = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        sample.and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
    }

    /// Ends every wait for the next attempt.
    pub async fn all_due(&self) -> anyhow::Result<()> {
        sqlx::query("update notifications set next_attempt_at = now()").execute(&self.pool).await?;
        Ok(())
    }

    /// How long the pending notification that waits longest does, in seconds.
    pub async fn longest_wait(&self) -> anyhow::Result<f64> {
        let sql =
            "select coalesce(max(extract(epoch from next_attempt_at - now())), 0)::float8 from notifications
            where status = 'PENDING'";
        Ok(sqlx::query_scalar(sql).fetch_one(&self.pool).await?)
    }

    /// Has everything been tried for longer than anything is.
    pub async fn let_days_pass(&self) -> anyhow::Result<()> {
        sqlx::query("update notifications set first_attempt_at = now() - interval '2 days'")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Ends every lease, as time does after a crash.
    pub async fn end_leases(&self) -> anyhow::Result<()> {
        sqlx::query("update notifications set claimed_until = now()").execute(&self.pool).await?;
        Ok(())
    }

    /// Kind, channel, status and attempts of each notification, in the order of requests.
    pub async fn told(&self) -> anyhow::Result<Vec<String>> {
        let sql =
            "select concat_ws(' ', kind, channel, status, attempts) from notifications order by position";
        Ok(sqlx::query_scalar(sql).fetch_all(&self.pool).await?)
    }
}

/// A record of `notification-events` about this order.
pub fn record(event_type: &str, order_id: Uuid, payload: Vec<u8>) -> Message {
    let (source, id) = ("/orderly/order".to_owned(), Uuid::now_v7());
    let mut headers = Headers::default();
    for (name, value) in [("ce_source", &source), ("ce_id", &id.to_string())] {
        headers.push_text(name, value);
    }
    headers.push_text("ce_type", event_type);
    Message {
        topic: "notification-events".to_owned(),
        partition: 3,
        offset: 42,
        key: Some(order_id.to_string().into_bytes()),
        headers,
        payload: Some(payload),
        timestamp: Some(1_763_000_000_123),
        source,
        id,
        event_type: event_type.to_owned(),
        span: None,
    }
}

/// Claims what is due on a channel and delivers it. Returns how much that was.
pub async fn dispatch<D: Dispatch>(deliveries: &D) -> anyhow::Result<usize> {
    let claimed = deliveries.claim(10).await?;
    let count = claimed.len();
    for notification in claimed {
        deliveries.perform(notification).await?;
    }
    Ok(count)
}

/// The dispatcher of a channel, as the service makes it.
pub fn deliveries<M>(pool: &PgPool, medium: M, metrics: &metrics::Metrics) -> Arc<Deliveries<M>> {
    let kafka = KafkaArgs { kafka: String::new(), prefix: String::new() };
    let consumer = Metrics::register(&telemetry::Metrics::new(), &SUBSCRIPTION);
    let dead_letters = Undelivered::new(&SUBSCRIPTION, &kafka, consumer, "1.2.3");
    let (pool, metrics) = (pool.clone(), metrics.clone());
    Arc::new(Deliveries { pool, medium, give_up_after: GIVE_UP_AFTER, dead_letters, metrics })
}

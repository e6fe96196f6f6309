//! The service's parts on a database of their own, and a mail server.

use std::sync::Arc;

use consumer::{HandleError, Handler as _, Message, dispatch::Dispatch as _};
use notification::{
    Notification, api::Api, app, dispatch::Deliveries, domain::Kind, handlers::Handlers, mail::Mailer,
};
use outbox::{Headers, UnitOfWork};
use prost::{Message as _, Name as _};
use proto::notification::v1::{NotificationKind, NotificationRequested};
use sqlx::PgPool;
use testkit::Database;
use uuid::Uuid;

use crate::smtp::{Answer, Smtp};

/// Whom it is all about.
pub const CUSTOMER: &str = "cust-1";
/// Where they want their e-mails.
pub const ADDRESS: &str = "ann@example.com";

/// One test's world.
pub struct Scene {
    /// As the service.
    pub pool: PgPool,
    /// What delivers.
    pub deliveries: Arc<Deliveries>,
    /// What takes the e-mails.
    pub smtp: Smtp,
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
        let deliveries = Arc::new(Deliveries { pool: pool.clone(), mailer });
        Ok(Self { pool, deliveries, smtp, order_id: Uuid::now_v7(), database })
    }

    /// The server side of gRPC.
    pub fn api(&self) -> Api {
        Api { pool: self.pool.clone() }
    }

    /// From now on the customer is told by e-mail.
    pub async fn choose_email(&self) -> anyhow::Result<()> {
        let channel = notification::domain::Channel::Email(ADDRESS.parse()?);
        Ok(app::update_settings(&self.pool, &CUSTOMER.parse()?, &channel).await?)
    }

    /// An event of this scene's order.
    pub fn request(&self, kind: Kind) -> NotificationRequested {
        let kind = match kind {
            Kind::PaymentReceipt => NotificationKind::PaymentReceipt,
            Kind::OrderConfirmed => NotificationKind::OrderConfirmed,
            Kind::OrderRejected => NotificationKind::OrderRejected,
            Kind::OrderCancelled => NotificationKind::OrderCancelled,
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

    /// One record, as the consumer does it: in one transaction.
    pub async fn handle(&self, event_type: &str, payload: Vec<u8>) -> Result<(), HandleError> {
        let message = Message {
            topic: "notification-events".to_owned(),
            partition: 0,
            offset: 0,
            key: Some(self.order_id.to_string().into_bytes()),
            headers: Headers::default(),
            payload: Some(payload),
            timestamp: None,
            source: "/orderly/order".to_owned(),
            id: Uuid::now_v7(),
            event_type: event_type.to_owned(),
        };
        let mut work = UnitOfWork::begin(&self.pool).await.expect("a transaction");
        let events = Handlers.handle(&mut work, &message).await?;
        assert!(events.is_empty(), "this service makes no events");
        work.commit(events).await.expect("committed");
        Ok(())
    }

    /// Claims what is due and delivers it. Returns how much that was.
    pub async fn dispatch(&self) -> anyhow::Result<usize> {
        let claimed = self.deliveries.claim(10).await?;
        let count = claimed.len();
        for notification in claimed {
            self.deliveries.perform(notification).await?;
        }
        Ok(count)
    }

    /// Ends every wait for the next attempt.
    pub async fn all_due(&self) -> anyhow::Result<()> {
        sqlx::query("update notifications set next_attempt_at = now()").execute(&self.pool).await?;
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

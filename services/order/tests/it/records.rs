//! The service's consumer on topics of its own: what inventory and billing would send, and waiting until it has taken
//! effect.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use prost::{Message, Name};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use service::App as _;
use telemetry::Heartbeat;
use testkit::until;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::scene::Scene;

/// How long a record may take to take effect, joining the group included.
const WITHIN: Duration = Duration::from_secs(30);
/// A type of which the service knows nothing.
const UNKNOWN_TYPE: &str = "orderly.other.v1.SomethingNew";

/// Inventory's answers.
pub const STOCK_RESULTS: &str = "stock-results";
/// Billing's answers.
pub const PAYMENT_RESULTS: &str = "payment-results";
/// Inventory's catalogue.
pub const PRODUCT_EVENTS: &str = "product-events";
const TOPICS: [&str; 3] = [STOCK_RESULTS, PAYMENT_RESULTS, PRODUCT_EVENTS];

/// The other side of what the service reads: one partition for each topic, so that what was sent to it before is processed
/// before.
pub struct Records<'a> {
    scene: &'a Scene,
    admin: AdminClient<DefaultClientContext>,
    producer: FutureProducer,
    stop: CancellationToken,
    worker: JoinHandle<anyhow::Result<()>>,
}

impl<'a> Records<'a> {
    /// Makes the topics and starts the service's worker on them.
    pub async fn begin(scene: &'a Scene) -> anyhow::Result<Self> {
        let names = TOPICS.map(|topic| format!("{}{topic}", scene.kafka.prefix));
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &scene.kafka.kafka).set("message.timeout.ms", "20000");
        let admin: AdminClient<_> = client.create()?;
        let topics = names.each_ref().map(|name| NewTopic::new(name, 1, TopicReplication::Fixed(1)));
        for result in admin.create_topics(&topics, &AdminOptions::new()).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
        }
        let stop = scene.shutdown.child_token();
        let work = Arc::clone(&scene.service).work(Arc::new(Heartbeat::new("test")), stop.clone());
        let (producer, worker) = (client.create()?, tokio::spawn(work));
        Ok(Self { scene, admin, producer, stop, worker })
    }

    /// Sends an event, new to everybody. Returns its id.
    pub async fn send<M: Message + Name>(&self, event: &M) -> anyhow::Result<Uuid> {
        let id = Uuid::now_v7();
        self.send_again(id, event).await?;
        Ok(id)
    }

    /// Sends an event under an id of one that was sent before.
    pub async fn send_again<M: Message + Name>(&self, id: Uuid, event: &M) -> anyhow::Result<()> {
        let topic = match (M::PACKAGE, M::NAME) {
            ("orderly.billing.v1", _) => PAYMENT_RESULTS,
            (_, "ProductUpserted") => PRODUCT_EVENTS,
            _ => STOCK_RESULTS,
        };
        self.send_raw(topic, id, &M::full_name(), &event.encode_to_vec()).await
    }

    /// Sends whatever it is.
    pub async fn send_raw(
        &self,
        topic: &str,
        id: Uuid,
        event_type: &str,
        payload: &[u8],
    ) -> anyhow::Result<()> {
        let (id, topic_name) = (id.to_string(), format!("{}{topic}", self.scene.kafka.prefix));
        let source = if topic == PAYMENT_RESULTS { "/orderly/billing" } else { "/orderly/inventory" };
        let mut headers = OwnedHeaders::new();
        for (key, value) in [("ce_source", source), ("ce_id", &id), ("ce_type", event_type)] {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let record = FutureRecord::to(&topic_name).key(&id).headers(headers).payload(payload);
        self.producer.send(record, WITHIN).await.map_err(|(error, _)| error).context("produce")?;
        Ok(())
    }

    /// Waits until everything that was sent has taken effect.
    pub async fn settle(&self) -> anyhow::Result<()> {
        for topic in TOPICS {
            let last = Uuid::now_v7();
            self.send_raw(topic, last, UNKNOWN_TYPE, b"rubbish").await?;
            until("the last record is in the inbox", WITHIN, || async {
                Ok(self.is_in_inbox(last).await?.then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// Whether a record has taken effect.
    pub async fn is_in_inbox(&self, id: Uuid) -> anyhow::Result<bool> {
        let sql = "select exists (select from inbox.message where id = $1)";
        Ok(sqlx::query_scalar(sql).bind(id.to_string()).fetch_one(&self.scene.pool).await?)
    }

    /// Waits until a record is a dead letter, and says why it is one.
    pub async fn dead(&self, id: Uuid) -> anyhow::Result<String> {
        until("the record is a dead letter", WITHIN, || async {
            let sql = "select error from inbox.dead_letter where event_id = $1";
            Ok(sqlx::query_scalar(sql).bind(id.to_string()).fetch_optional(&self.scene.pool).await?)
        })
        .await
    }

    /// Ends the worker as a shutdown does, and deletes the topics.
    pub async fn end(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.worker.await??;
        let names = TOPICS.map(|topic| format!("{}{topic}", self.scene.kafka.prefix));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.admin.delete_topics(&names, &AdminOptions::new()).await?;
        Ok(())
    }
}

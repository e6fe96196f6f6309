//! The service's consumer on a topic of its own: what billing would send, and waiting until it has taken effect.

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
const UNKNOWN_TYPE: &str = "orderly.billing.v1.SomethingNew";

/// Billing's side of `payment-results`: one partition, so that what was sent before is processed before.
pub struct Records<'a> {
    scene: &'a Scene,
    topic: String,
    admin: AdminClient<DefaultClientContext>,
    producer: FutureProducer,
    stop: CancellationToken,
    worker: JoinHandle<anyhow::Result<()>>,
}

impl<'a> Records<'a> {
    /// Makes the topic and starts the service's worker on it.
    pub async fn begin(scene: &'a Scene) -> anyhow::Result<Self> {
        let topic = format!("{}payment-results", scene.kafka.prefix);
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &scene.kafka.kafka).set("message.timeout.ms", "20000");
        let admin: AdminClient<_> = client.create()?;
        let one = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
        for result in admin.create_topics([&one], &AdminOptions::new()).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
        }
        let stop = scene.shutdown.child_token();
        let work = Arc::clone(&scene.service).work(Arc::new(Heartbeat::new("test")), stop.clone());
        let (producer, worker) = (client.create()?, tokio::spawn(work));
        Ok(Self { scene, topic, admin, producer, stop, worker })
    }

    /// Sends an event, new to everybody. Returns its id.
    pub async fn send<M: Message + Name>(&self, event: &M) -> anyhow::Result<Uuid> {
        let id = Uuid::now_v7();
        self.send_raw(id, &M::full_name(), &event.encode_to_vec()).await?;
        Ok(id)
    }

    /// Sends whatever it is.
    pub async fn send_raw(&self, id: Uuid, event_type: &str, payload: &[u8]) -> anyhow::Result<()> {
        let id = id.to_string();
        let mut headers = OwnedHeaders::new();
        for (key, value) in [("ce_source", "/orderly/billing"), ("ce_id", &id), ("ce_type", event_type)] {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let record = FutureRecord::to(&self.topic).key(&id).headers(headers).payload(payload);
        self.producer.send(record, WITHIN).await.map_err(|(error, _)| error).context("produce")?;
        Ok(())
    }

    /// Waits until everything that was sent has taken effect.
    pub async fn settle(&self) -> anyhow::Result<()> {
        let last = Uuid::now_v7();
        self.send_raw(last, UNKNOWN_TYPE, b"rubbish").await?;
        until("the last record is in the inbox", WITHIN, || async {
            Ok(self.is_in_inbox(last).await?.then_some(()))
        })
        .await
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

    /// Ends the worker as a shutdown does, and deletes the topic.
    pub async fn end(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.worker.await??;
        self.admin.delete_topics(&[&self.topic], &AdminOptions::new()).await?;
        Ok(())
    }
}

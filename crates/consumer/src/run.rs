//! A member of a consumer group: joins, works, leaves.

use std::{sync::Arc, time::Duration};

use rdkafka::consumer::{CommitMode, Consumer as _};
use sqlx::PgPool;
use telemetry::Heartbeat;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Error, Handler, KafkaArgs, Metrics, Subscription,
    kafka::{self, Client, Ownership, Protocol},
    open_letters, replay, ring,
    worker::Worker,
};

/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(3);

/// A member of a consumer group and what it needs to work.
pub struct Consumer<H> {
    /// What is read.
    pub subscription: Subscription,
    /// Where from.
    pub kafka: KafkaArgs,
    /// Where the effects happen.
    pub pool: PgPool,
    /// What the effects are.
    pub handler: H,
    /// Told after each committed batch, so that a dispatcher need not wait for its next poll.
    pub after_commit: Arc<Notify>,
    /// Beats while the loop moves.
    pub heartbeat: Arc<Heartbeat>,
    /// What is counted.
    pub metrics: Metrics,
    /// Of the program: a dead letter says in which one it failed.
    pub version: &'static str,
}

impl<H: Handler> Consumer<H> {
    /// A consumer that nobody watches: set `heartbeat`, `metrics` and `version` where somebody does.
    pub fn new(subscription: Subscription, kafka: KafkaArgs, pool: PgPool, handler: H) -> Self {
        Self {
            metrics: Metrics::register(&telemetry::Metrics::new(), &subscription),
            subscription,
            kafka,
            pool,
            handler,
            after_commit: Arc::default(),
            heartbeat: Arc::new(Heartbeat::new("consumer")),
            version: "",
        }
    }

    /// Consumes and replays until shutdown, and then leaves the group with its offsets committed.
    ///
    /// Fails where only a new process can help. While PostgreSQL or Kafka is away it waits, without limit.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let ended = shutdown.child_token();
        let replays = replay::run(&self, ended.clone());
        let ring = ring::keep(&self.pool, ended.clone());
        let group = self.group();
        let open = open_letters::watch(&self.pool, &group, &self.metrics, ended.clone());
        let records = async {
            let outcome = self.consume(&shutdown).await;
            ended.cancel();
            outcome
        };
        let (outcome, (), (), ()) = tokio::join!(records, replays, ring, open);
        outcome
    }

    /// The group as Kafka and the database know it.
    pub(crate) fn group(&self) -> String {
        format!("{}{}", self.kafka.prefix, self.subscription.group)
    }

    async fn consume(&self, shutdown: &CancellationToken) -> Result<(), Error> {
        let mut protocol = Protocol::Consumer;
        loop {
            match self.join(protocol, shutdown).await {
                Ok(()) => return Ok(()),
                Err(Error::Fenced) => {
                    warn!(
                        group = self.group(),
                        "a partition may be another worker's; joining the group again"
                    );
                }
                Err(Error::Kafka(error))
                    if protocol == Protocol::Consumer && kafka::is_unsupported(&error) =>
                {
                    warn!(
                        group = self.group(),
                        "the broker does not speak the group protocol of KIP-848; using the classic one"
                    );
                    protocol = Protocol::Classic;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One membership of the group.
    async fn join(&self, protocol: Protocol, shutdown: &CancellationToken) -> Result<(), Error> {
        let group = self.group();
        let ownership = Ownership::new(&self.metrics, &self.kafka.prefix);
        let client = kafka::client(&self.kafka, &group, protocol, ownership)?;
        let topics: Vec<String> = self
            .subscription
            .topics
            .iter()
            .map(|topic| format!("{}{}", self.kafka.prefix, topic.name))
            .collect();
        client.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())?;
        info!(group, ?topics, "consuming");
        let ended = Worker::new(self, &client, &group).work(shutdown).await;
        let ownership = Arc::clone(client.context());
        leave(client, &group).await;
        ownership.finish();
        self.metrics.blocked.set(0.0);
        self.heartbeat.set_trouble(None);
        ended
    }
}

/// Leaves the group with the offsets of the last batches committed. Both wait for a broker that may be away, and block:
/// a thread of their own does it, which is given up after a while.
async fn leave(client: Client, group: &str) {
    let (done, left) = oneshot::channel::<()>();
    let leaving = std::thread::Builder::new().name("leave-group".to_owned()).spawn(move || {
        if let Err(error) = client.commit_consumer_state(CommitMode::Sync) {
            tracing::debug!(%error, "last commit");
        }
        client.unsubscribe();
        drop(client);
        drop(done);
    });
    match tokio::time::timeout(LEAVE, left).await {
        Ok(_) if leaving.is_ok() => info!(group, "left the group"),
        _ => warn!(group, "kafka does not answer; the group will notice that this member is gone"),
    }
}

//! The loop: read a batch, apply it, commit its offsets.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
    error::KafkaError,
};
use sqlx::PgPool;
use telemetry::Heartbeat;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    Error, HandleError, Handler, KafkaArgs, Message, Metrics,
    batch::{self, Failure},
    fence::Fence,
    kafka::{self, Client},
};

/// The most records of one transaction.
const BATCH_RECORDS: usize = 500;
/// How long a failed batch waits before it is run again: doubles from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long the loop waits for a record before it shows that it is alive.
const IDLE: Duration = Duration::from_secs(1);
/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(3);

/// What a service reads.
#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    /// Consumer group, without the deployment's prefix: the service's name.
    pub group: &'static str,
    /// Logical topics.
    pub topics: &'static [&'static str],
}

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
}

impl<H: Handler> Consumer<H> {
    /// Consumes until shutdown, and then leaves the group with its offsets committed.
    ///
    /// A record that cannot be processed stops the consumer: everything before it has taken effect, an error names it,
    /// nothing is skipped, and a restart tries it again. Until shutdown the process stays up, for its other work.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        loop {
            match self.join(&shutdown).await {
                Ok(()) => return Ok(()),
                Err(Error::Fenced) => {
                    warn!(
                        group = self.group(),
                        "a partition may be another worker's; joining the group again"
                    );
                }
                Err(error @ Error::Poison { .. }) => {
                    error!(group = self.group(), %error, "consumer stopped; mend the cause and restart this service");
                    self.metrics.stopped.set(1);
                    self.heartbeat.stop(error.to_string());
                    self.idle(&shutdown).await;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn group(&self) -> String {
        format!("{}{}", self.kafka.prefix, self.subscription.group)
    }

    async fn idle(&self, shutdown: &CancellationToken) {
        while tokio::time::timeout(IDLE, shutdown.cancelled()).await.is_err() {
            self.heartbeat.beat();
        }
    }

    /// One membership of the group.
    async fn join(&self, shutdown: &CancellationToken) -> Result<(), Error> {
        let group = self.group();
        let client = kafka::client(&self.kafka, &group)?;
        let topics: Vec<String> =
            self.subscription.topics.iter().map(|topic| format!("{}{topic}", self.kafka.prefix)).collect();
        client.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())?;
        info!(group, ?topics, "consuming");
        let ended = self.consume(&client, &group, shutdown).await;
        leave(client, &group).await;
        ended
    }

    async fn consume(&self, client: &Client, group: &str, shutdown: &CancellationToken) -> Result<(), Error> {
        let owner = Uuid::now_v7();
        let mut backoff = BACKOFF.0;
        let mut answers = true;
        while !shutdown.is_cancelled() {
            self.heartbeat.beat();
            let messages = match self.read(client, shutdown).await {
                Ok(messages) if messages.is_empty() => continue,
                Ok(messages) => {
                    if !std::mem::replace(&mut answers, true) {
                        info!(group, "kafka answers again");
                    }
                    messages
                }
                Err(error) if client_is_lost(&error) => return Err(error.into()),
                Err(error) => {
                    // Once per outage: librdkafka queues an error for each broker and each attempt, which its own
                    // backoff spaces. A pause here would put off the assignment that is queued behind them.
                    if std::mem::replace(&mut answers, false) {
                        warn!(group, %error, "kafka does not answer; trying on");
                    }
                    continue;
                }
            };
            let started = Instant::now();
            match self.process(client, group, owner, &messages).await {
                Ok(()) => {
                    self.metrics.batch_seconds.observe(started.elapsed().as_secs_f64());
                    self.after_commit.notify_one();
                    backoff = BACKOFF.0;
                }
                Err(error @ (Error::Sql(_) | Error::Outbox(_))) => {
                    self.metrics.failures.inc();
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(group, %error, cause, records = messages.len(), "batch rolled back; running it again");
                    pause(&mut backoff, shutdown).await;
                    rewind(client, &self.kafka.prefix, &messages)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for a record, then takes what has been fetched already.
    async fn read(&self, client: &Client, shutdown: &CancellationToken) -> Result<Vec<Message>, KafkaError> {
        let first = tokio::select! {
            first = tokio::time::timeout(IDLE, client.recv()) => first,
            () = shutdown.cancelled() => return Ok(Vec::new()),
        };
        let Ok(first) = first else { return Ok(Vec::new()) };
        let mut messages = vec![Message::from_record(&first?, &self.kafka.prefix)];
        while messages.len() < BATCH_RECORDS {
            match client.recv().now_or_never() {
                None => break,
                Some(Ok(record)) => messages.push(Message::from_record(&record, &self.kafka.prefix)),
                // What was read is read again by the next client.
                Some(Err(error)) if client_is_lost(&error) => return Err(error),
                Some(Err(error)) => tracing::debug!(%error, "kafka client"),
            }
        }
        Ok(messages)
    }

    /// Applies a batch; where one record is poison, everything left of it first.
    async fn process(
        &self,
        client: &Client,
        group: &str,
        owner: Uuid,
        messages: &[Message],
    ) -> Result<(), Error> {
        let mut checked = Vec::with_capacity(messages.len());
        let mut poison = None;
        for message in messages {
            let mut message = message.clone();
            match message.check() {
                Ok(()) => checked.push(message),
                Err(HandleError::Poison { reason }) => {
                    poison = Some(reason);
                    break;
                }
                Err(HandleError::Sql(error)) => return Err(error.into()),
            }
        }
        loop {
            match self.commit(client, group, owner, &checked).await {
                Ok(()) => break,
                Err(Failure::Poison { index, reason }) => {
                    poison = Some(reason);
                    checked.truncate(index);
                }
                // Some record has it; which one, is found from left to right.
                Err(Failure::Error(error)) if error.is_about_data() => {
                    let (done, reason) = self.one_by_one(client, group, owner, &checked).await?;
                    if let Some(reason) = reason {
                        poison = Some(reason);
                        checked.truncate(done);
                    }
                    break;
                }
                Err(Failure::Error(error)) => return Err(error),
            }
        }
        match poison {
            None => Ok(()),
            Some(reason) => {
                let Message { topic, partition, offset, .. } = messages[checked.len()].clone();
                Err(Error::Poison { topic, partition, offset, reason })
            }
        }
    }

    /// Applies each record in a transaction of its own, up to the first that PostgreSQL will never take: how many took
    /// effect, and why the next one does not.
    async fn one_by_one(
        &self,
        client: &Client,
        group: &str,
        owner: Uuid,
        messages: &[Message],
    ) -> Result<(usize, Option<String>), Error> {
        for (index, message) in messages.iter().enumerate() {
            self.heartbeat.beat();
            match self.commit(client, group, owner, std::slice::from_ref(message)).await {
                Ok(()) => {}
                Err(Failure::Poison { reason, .. }) => return Ok((index, Some(reason))),
                Err(Failure::Error(error)) if error.is_about_data() => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    return Ok((index, Some(cause.unwrap_or_else(|| error.to_string()))));
                }
                Err(Failure::Error(error)) => return Err(error),
            }
        }
        Ok((messages.len(), None))
    }

    async fn commit(
        &self,
        client: &Client,
        group: &str,
        owner: Uuid,
        messages: &[Message],
    ) -> Result<(), Failure> {
        if messages.is_empty() {
            return Ok(());
        }
        let physical =
            |message: &Message| (format!("{}{}", self.kafka.prefix, message.topic), message.partition);
        let partitions: BTreeSet<_> = messages.iter().map(physical).collect();
        let fence = Fence::acquire(&self.pool, group, owner, client.context(), partitions).await?;
        batch::apply(&self.pool, group, &fence, &self.handler, messages, &self.metrics).await?;
        let last: BTreeMap<_, _> =
            messages.iter().map(|message| (physical(message), message.offset + 1)).collect();
        let mut next = TopicPartitionList::new();
        for ((topic, partition), offset) in last {
            // Fails for a partition that was just revoked, and only for that one.
            if client.store_offset(&topic, partition, offset - 1).is_ok() {
                next.add_partition_offset(&topic, partition, Offset::Offset(offset)).map_err(Error::from)?;
            }
        }
        // Losing this commit only repeats records, which the inbox drops.
        if let Err(error) = client.commit(&next, CommitMode::Async) {
            tracing::debug!(group, %error, "offset commit");
        }
        Ok(())
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

/// Back to the first record of the batch in each partition. A partition that cannot be rewound would go on behind the
/// batch: then the group is joined again, which begins at the committed offsets.
fn rewind(client: &Client, prefix: &str, messages: &[Message]) -> Result<(), Error> {
    let mut first = BTreeMap::new();
    for message in messages {
        first.entry((format!("{prefix}{}", message.topic), message.partition)).or_insert(message.offset);
    }
    for ((topic, partition), offset) in first {
        if let Err(error) = client.seek(&topic, partition, Offset::Offset(offset), Duration::from_secs(5)) {
            info!(topic, partition, offset, %error, "partition not rewound; joining the group again");
            return Err(Error::Fenced);
        }
    }
    Ok(())
}

async fn pause(backoff: &mut Duration, shutdown: &CancellationToken) {
    let jittered = backoff.mul_f64(rand::random_range(0.5..1.0));
    let _ = tokio::time::timeout(jittered, shutdown.cancelled()).await;
    *backoff = (*backoff * 2).min(BACKOFF.1);
}

/// Whether only a new client can help.
fn client_is_lost(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumptionFatal(_))
}

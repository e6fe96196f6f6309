//! The loop of a member: read a batch, apply it, commit its offsets.

use std::{collections::BTreeMap, time::Duration};

use futures_util::FutureExt as _;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
    error::KafkaError,
    message::{BorrowedMessage, Message as _},
};
use telemetry::TraceId;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    Consumer, Error, Handler, Kind, Limits, Message,
    batch::{Batches, Mode, Stopped},
    buffer::{Buffer, Read},
    error::Failure,
    fence::Fence,
    kafka::{self, Client},
    spans,
};

/// How long a batch that was rolled back waits: doubles from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How long the loop waits for a record before it shows that it is alive.
const IDLE: Duration = Duration::from_secs(1);
/// How long PostgreSQL may take for one batch, below what the liveness probe bears.
const WITHIN: Duration = Duration::from_secs(20);

/// How long Kafka may take for an answer that the next batch waits for.
const ASK: Duration = Duration::from_secs(5);

/// One membership of a group at work.
pub(crate) struct Worker<'c, H> {
    consumer: &'c Consumer<H>,
    client: &'c Client,
    group: &'c str,
    /// Of this membership, for the fence.
    owner: Uuid,
    buffer: Buffer,
    /// Bounds of the next batch: smaller than the subscription's after one that took too long.
    limits: Limits,
    /// Whether Kafka has answered since the last error.
    answers: bool,
    /// Why the last batch was rolled back.
    failing: Option<String>,
}

impl<'c, H: Handler> Worker<'c, H> {
    pub fn new(consumer: &'c Consumer<H>, client: &'c Client, group: &'c str) -> Self {
        let worker = Self {
            consumer,
            client,
            group,
            owner: Uuid::now_v7(),
            buffer: Buffer::default(),
            limits: consumer.subscription.limits,
            answers: true,
            failing: None,
        };
        // What the last membership waited for is read anew.
        worker.show();
        worker
    }

    /// Works until shutdown, or until this membership is of no more use.
    pub async fn work(mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        let mut backoff = BACKOFF.0;
        while !shutdown.is_cancelled() {
            self.consumer.heartbeat.beat();
            if !self.buffer.is_ready() {
                self.read(shutdown).await?;
            }
            self.drop_lost();
            let mut batch = self.buffer.take(self.limits);
            if batch.is_empty() {
                continue;
            }
            let started = Instant::now();
            let processed = timeout(WITHIN, self.process(&mut batch)).await.unwrap_or(Err(Error::Timeout));
            match processed {
                Ok(trace) => {
                    self.consumer.metrics.batch_seconds.observe_in(started.elapsed().as_secs_f64(), trace);
                    backoff = BACKOFF.0;
                    self.limits.records =
                        (self.limits.records * 2).min(self.consumer.subscription.limits.records);
                    self.tell(None);
                }
                Err(error @ (Error::Fenced | Error::Kafka(_))) => return Err(error),
                Err(error) => {
                    self.consumer.metrics.failures.inc();
                    if error.is_slow() {
                        self.limits.records = (batch.len() / 2).max(1);
                    }
                    let words = error.words();
                    // Of an attempt that was cut off.
                    spans::roll_back(&mut batch, error.class(), &words);
                    warn!(
                        group = self.group,
                        error = words,
                        records = batch.len(),
                        "batch rolled back; running it again"
                    );
                    if error.is_slow() && batch.len() == 1 {
                        // It alone is: all others go on.
                        let failure = Failure { kind: Kind::Config, error: words };
                        self.block(&mut batch, 0, &failure)?;
                        continue;
                    }
                    self.tell(Some(words));
                    self.buffer.put_back(batch);
                    self.rest(backoff.mul_f64(rand::random_range(0.5..1.0)), shutdown).await?;
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
            }
        }
        Ok(())
    }

    /// Waits for a record, then takes what has been fetched already.
    async fn read(&mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        let limits = self.consumer.subscription.limits;
        let client = self.client;
        let until = Instant::now() + IDLE;
        let until = self.buffer.due().map_or(until, |due| due.min(until));
        let first = tokio::select! {
            first = timeout_at(until, client.recv()) => first,
            () = shutdown.cancelled() => return Ok(()),
        };
        let Ok(first) = first else { return Ok(()) };
        let (mut records, mut bytes) = (0, 0);
        let mut next = Some(first);
        while let Some(record) = next.take() {
            if let Some(size) = self.take(record)? {
                (records, bytes) = (records + 1, bytes + size);
            }
            if records < limits.records && bytes < limits.bytes {
                next = client.recv().now_or_never();
            }
        }
        Ok(())
    }

    /// Puts a record into the buffer and says how large it is; fails where only a new client can help.
    fn take(&mut self, record: Result<BorrowedMessage<'_>, KafkaError>) -> Result<Option<usize>, Error> {
        match record {
            Ok(record) => {
                if !std::mem::replace(&mut self.answers, true) {
                    info!(group = self.group, "kafka answers again");
                }
                let partition = (record.topic().to_owned(), record.partition());
                // Not owned any more: its next owner reads it.
                let Some(ownership) = self.client.context().current(&partition) else { return Ok(None) };
                let mut message = Message::from_record(&record, &self.consumer.kafka.prefix);
                // What is no event is dealt with in its turn.
                let _ = message.identify();
                let size = message.size();
                self.buffer.push(Read { partition, ownership, message, has_waited: false });
                Ok(Some(size))
            }
            Err(error) if kafka::is_lost(&error) => Err(error.into()),
            Err(error) => {
                // Once per outage: librdkafka queues an error for each broker and each attempt, which its own backoff
                // spaces. A pause here would put off the assignment that is queued behind them.
                if std::mem::replace(&mut self.answers, false) {
                    warn!(group = self.group, %error, "kafka does not answer; trying on");
                }
                Ok(None)
            }
        }
    }

    /// Waits with all partitions paused. The client is polled all the same, so that a rebalance is not held up by it, and
    /// what was read of a partition that goes is forgotten.
    async fn rest(&mut self, time: Duration, shutdown: &CancellationToken) -> Result<(), Error> {
        let client = self.client;
        let until = Instant::now() + time;
        client.pause(&client.assignment()?)?;
        loop {
            self.consumer.heartbeat.beat();
            let record = tokio::select! {
                record = client.recv() => record,
                () = sleep_until(until) => break,
                () = shutdown.cancelled() => break,
            };
            if self.take(record)?.is_some() {
                // Of a partition that was assigned meanwhile.
                client.pause(&client.assignment()?)?;
            }
        }
        self.drop_lost();
        let mut flow = TopicPartitionList::new();
        for element in client.assignment()?.elements() {
            let partition = (element.topic().to_owned(), element.partition());
            if !self.buffer.blocked().any(|blocked| *blocked == partition) {
                flow.add_partition(element.topic(), element.partition());
            }
        }
        Ok(client.resume(&flow)?)
    }

    /// Applies a batch. What fails is found from left to right: nothing right of it commits before it has succeeded, has
    /// been parked with its hold, or its partition waits. What is left in `batch` afterwards has not taken effect. Returns
    /// the last sampled trace in which something has.
    async fn process(&mut self, batch: &mut Vec<Read>) -> Result<Option<TraceId>, Error> {
        let (mut mode, mut size, mut trace) = (Mode::Together, batch.len(), None);
        while !batch.is_empty() {
            size = size.clamp(1, batch.len());
            match self.apply(&mut batch[..size], &mode).await {
                Ok(recorded) => {
                    trace = recorded.or(trace);
                    let done = batch.drain(..size).collect::<Vec<_>>();
                    self.commit_offsets(&done)?;
                    mode = if matches!(mode, Mode::Together) { mode } else { Mode::Apart };
                    size = batch.len();
                }
                Err(Stopped::Record(_)) => mode = Mode::Apart,
                Err(Stopped::Blocked { index, failure }) => {
                    self.block(batch, index, &failure)?;
                    (mode, size) = (Mode::Apart, batch.len());
                }
                Err(Stopped::Ahead { partition, reached }) => {
                    batch.retain(|read| read.partition != partition);
                    self.buffer.drop_partition(&partition);
                    if let Err(error) =
                        self.client.seek(&partition.0, partition.1, Offset::Offset(reached), ASK)
                    {
                        info!(group = self.group, partition = ?partition, %error, "not set back; joining the group again");
                        return Err(Error::Fenced);
                    }
                    size = batch.len();
                }
                Err(Stopped::Error(error)) => match error.blame() {
                    None | Some(Kind::Config) => return Err(error),
                    // Not even as a dead letter.
                    Some(_) if matches!(mode, Mode::Condemned(_)) => return Err(error),
                    // The commit or the append refuses it: each apart, and then halves, the left one first.
                    Some(_) if matches!(mode, Mode::Together) => mode = Mode::Apart,
                    Some(_) if size > 1 => size /= 2,
                    Some(kind) => mode = Mode::Condemned(Failure { kind, error: error.words() }),
                },
            }
        }
        Ok(trace)
    }

    async fn apply(&self, reads: &mut [Read], mode: &Mode) -> Result<Option<TraceId>, Stopped> {
        let consumer = self.consumer;
        consumer.heartbeat.beat();
        let ownership = self.client.context();
        let fence = Fence::acquire(&consumer.pool, self.group, self.owner, ownership, reads).await?;
        self.check_positions(&fence, reads)?;
        let batches = Batches {
            pool: &consumer.pool,
            consumer: self.group,
            subscription: &consumer.subscription,
            handler: &consumer.handler,
            metrics: &consumer.metrics,
            version: consumer.version,
        };
        let trace = batches.apply(&fence, reads, mode).await?;
        for fenced in fence.partitions() {
            ownership.reach(&fenced.partition, fenced.next);
        }
        consumer.after_commit.notify_one();
        Ok(trace)
    }

    /// Whether each partition goes on where the effects in PostgreSQL end. Kafka's committed offset may be ahead of them,
    /// when the database was restored: then the partition is read again from there. What is not there any more was deleted
    /// before it was read, and is an operator's to accept.
    fn check_positions(&self, fence: &Fence, reads: &[Read]) -> Result<(), Stopped> {
        for fenced in fence.partitions() {
            let Some(reached) = fenced.reached.filter(|reached| fenced.first > *reached) else { continue };
            let ((topic, partition), first) = (&fenced.partition, fenced.first);
            if self.client.context().seeks(&fenced.partition) {
                info!(
                    group = self.group,
                    topic, partition, first, reached, "the group is ahead of its effects; reading again"
                );
                return Err(Stopped::Ahead { partition: fenced.partition.clone(), reached });
            }
            let (low, _) = self.client.fetch_watermarks(topic, *partition, ASK).map_err(Error::from)?;
            if low > reached {
                let error = format!(
                    "the records from offset {reached} to {} were deleted before they were read; `select \
                     inbox.accept_offsets(...)` as the operator goes on without them",
                    low - 1
                );
                let index =
                    reads.iter().position(|read| read.partition == fenced.partition).unwrap_or_default();
                return Err(Stopped::Blocked { index, failure: Failure { kind: Kind::Config, error } });
            }
        }
        Ok(())
    }

    /// Takes a record and what follows it in its partition out of the batch, to wait.
    fn block(&mut self, batch: &mut Vec<Read>, index: usize, failure: &Failure) -> Result<(), Error> {
        let Read { partition, message, .. } = &batch[index];
        let (partition, offset) = (partition.clone(), message.offset);
        let place = format!("{}[{}]@{}", message.topic, message.partition, message.offset);
        let reason = format!("waits at record {place} ({}): {}", failure.kind.as_str(), failure.error);
        error!(
            group = self.group,
            place,
            kind = failure.kind.as_str(),
            error = failure.error,
            "partition waits"
        );
        let (waiting, others): (Vec<_>, Vec<_>) = std::mem::take(batch)
            .into_iter()
            .enumerate()
            .partition(|(at, read)| *at >= index && read.partition == partition);
        *batch = others.into_iter().map(|(_, read)| read).collect();
        self.buffer.block(&partition, offset, waiting.into_iter().map(|(_, read)| read).collect(), reason);
        // What an operator has changed meanwhile is seen by the next try.
        self.client.context().forget_epoch(&partition);
        let mut paused = TopicPartitionList::new();
        paused.add_partition(&partition.0, partition.1);
        self.client.pause(&paused)?;
        self.tell(None);
        Ok(())
    }

    /// Forgets what was read from partitions that are not owned any more.
    fn drop_lost(&mut self) {
        if self.buffer.drop_lost(self.client.context()) {
            self.show();
        }
    }

    /// Takes note of whether the last batch was rolled back, and shows what keeps records waiting.
    fn tell(&mut self, failing: Option<String>) {
        self.failing = failing;
        self.show();
    }

    fn show(&self) {
        self.consumer.metrics.blocked.set_count(self.buffer.blocked().len());
        self.consumer.heartbeat.set_trouble(self.failing.clone().or_else(|| self.buffer.trouble()));
    }

    fn commit_offsets(&mut self, done: &[Read]) -> Result<(), Error> {
        let last: BTreeMap<_, _> = done.iter().map(|read| (&read.partition, read.message.offset)).collect();
        let (mut next, mut flow) = (TopicPartitionList::new(), TopicPartitionList::new());
        for (partition, offset) in last {
            let (topic, number) = partition;
            if self.buffer.unblock(partition, offset) {
                flow.add_partition(topic, *number);
            }
            // Fails for a partition that was just revoked, and only for that one.
            if self.client.store_offset(topic, *number, offset).is_ok() {
                next.add_partition_offset(topic, *number, Offset::Offset(offset + 1))?;
            }
        }
        if flow.count() > 0 {
            self.client.resume(&flow)?;
        }
        // Losing this commit only repeats records, which the inbox drops.
        if let Err(error) = self.client.commit(&next, CommitMode::Async) {
            tracing::debug!(group = self.group, %error, "offset commit");
        }
        Ok(())
    }
}

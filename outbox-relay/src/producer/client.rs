//! One client of librdkafka: an idempotent producer whose batches stay below what its topics take.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use outbox::Headers;
use rdkafka::{
    ClientConfig, ClientContext, Message as _,
    config::RDKafkaLogLevel,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{Header, Headers as _, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig},
};

use super::{ANSWER_WITHIN, DEFAULT_LIMIT, Record, Refusal, lock};
use crate::pending::Pending;

/// How long a turn of the polling thread lasts. rdkafka 0.39 spins for the last millisecond of each.
const TURN: Duration = Duration::from_secs(10);

/// A producer and its thread, which lives as long as the process.
pub(super) struct Client {
    producer: BaseProducer<Context>,
    /// What [`Client::lost`] said when a broker was last asked for the cluster.
    confirmed: AtomicU64,
}

pub(super) struct Context {
    trouble: Mutex<String>,
    /// How often a connection was lost, or not to be had.
    lost: AtomicU64,
}

impl Client {
    /// Starts the client; it connects by itself, now or later. No topic that it is used for takes less than `limit`
    /// bytes.
    pub fn start(mut config: ClientConfig, limit: usize) -> KafkaResult<Arc<Self>> {
        let producer = config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // Never give up by itself: a record that fails alone would be overtaken by its successors.
            .set("message.timeout.ms", "0")
            // While five requests are on their way, what comes next gathers by itself.
            .set("linger.ms", "0")
            .set("compression.type", "lz4")
            // A batch is refused as a whole, so it stays below what a topic takes, by more than compression could add.
            .set("batch.size", (limit - limit / 8).to_string())
            // Of a record alone, which has been measured against its topic: a batch is bounded above.
            .set("message.max.bytes", DEFAULT_LIMIT.to_string())
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "131072")
            .create_with_context(Context { trouble: Mutex::new(String::new()), lost: AtomicU64::new(0) })?;
        let client = Arc::new(Self { producer, confirmed: AtomicU64::new(0) });
        let polled = client.clone();
        let poll = move || {
            loop {
                polled.producer.poll(TURN);
            }
        };
        thread::Builder::new()
            .name("producer".to_owned())
            .spawn(poll)
            .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(client)
    }

    pub fn native(&self) -> &rdkafka::client::Client<Context> {
        self.producer.client()
    }

    /// What Kafka has last complained about.
    pub fn trouble(&self) -> String {
        lock(&self.producer.context().trouble).clone()
    }

    /// The `cluster.id` of those it sends to; `None` where a connection has failed since it was asked for.
    pub fn known_cluster(&self) -> Option<String> {
        let is_confirmed = self.confirmed.load(Ordering::Acquire) >= self.lost();
        is_confirmed.then(|| self.native().fetch_cluster_id(Duration::ZERO)).flatten()
    }

    /// The same, asked for where it is not known. Blocks for up to [`ANSWER_WITHIN`]; `None` when nobody answers.
    pub fn cluster(&self) -> Option<String> {
        let lost = self.lost();
        self.known_cluster().or_else(|| {
            self.native().fetch_metadata(None, ANSWER_WITHIN).ok()?;
            self.confirmed.fetch_max(lost, Ordering::AcqRel);
            self.native().fetch_cluster_id(Duration::ZERO)
        })
    }

    /// How often a connection has failed, or was not to be had. librdkafka does not tell of one that was closed in good
    /// order; then the next question for a topic, within a minute, finds out.
    fn lost(&self) -> u64 {
        self.producer.context().lost.load(Ordering::Acquire)
    }

    /// The error after which this producer will never send again.
    pub fn fatal(&self) -> Option<String> {
        self.native().fatal_error().map(|(code, reason)| format!("{code}: {reason}"))
    }

    /// Queues a record. `false` when the queue is full for now.
    pub fn send(&self, record: &Record<'_>, page: &Arc<Pending>) -> Result<bool, Refusal> {
        let pending = record.sending().map_or_else(|| page.clone(), |sending| page.of_sampled(sending));
        let mut base = BaseRecord::with_opaque_to(&record.topic, pending).partition(record.partition);
        if let Some(key) = &record.row.key {
            base = base.key(key.as_slice());
        }
        if let Some(payload) = &record.row.payload {
            base = base.payload(payload.as_slice());
        }
        page.add();
        match self.producer.send(base.headers(owned(&record.headers))) {
            Ok(()) => Ok(true),
            Err((error, base)) => {
                page.take_back();
                match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::QueueFull) => Ok(false),
                    code => {
                        let refusal = Refusal::Kafka {
                            topic: record.topic.to_string(),
                            reason: error.to_string(),
                            code,
                        };
                        if let Some(sending) = base.delivery_opaque.sending() {
                            sending.refused(&refusal);
                        }
                        Err(refusal)
                    }
                }
            }
        }
    }

    /// Has everything that is not yet sent answered with an error, and with `sent` what is not yet acknowledged, too.
    pub fn purge(&self, sent: bool) {
        let queue = PurgeConfig::default().queue();
        self.producer.purge(if sent { queue.inflight() } else { queue });
    }
}

fn owned(headers: &Headers) -> OwnedHeaders {
    let list = OwnedHeaders::new_with_capacity(headers.iter().len());
    headers.iter().fold(list, |list, (key, value)| list.insert(Header { key, value }))
}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, page: Arc<Pending>) {
        match result {
            Ok(record) => {
                // First: the relay may end with the last answer.
                if let Some(sending) = page.sending() {
                    sending.acknowledged(record.offset());
                }
                page.acknowledged(|| (record.topic(), record.key()));
            }
            Err((error, record)) => {
                let refusal = match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::PurgeQueue) => Refusal::Purged { sent: false },
                    Some(RDKafkaErrorCode::PurgeInflight) => Refusal::Purged { sent: true },
                    code => Refusal::Kafka {
                        topic: format!("{}/{}", record.topic(), record.partition()),
                        reason: code.map_or_else(|| error.to_string(), |code| code.to_string()),
                        code,
                    },
                };
                // What was not sent goes on waiting.
                if let Some(sending) = page.sending()
                    && refusal != (Refusal::Purged { sent: false })
                {
                    sending.refused(&refusal);
                }
                let id =
                    record.headers().and_then(|list| list.iter().find(|header| header.key == "ce_id")?.value);
                let id = id.map(|id| String::from_utf8_lossy(id).into_owned());
                page.refused((id, refusal), record.topic(), record.key());
            }
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, "librdkafka: {message}");
            }
            // A broker that is away says so over and over; the outbox's state says it once.
            _ => tracing::debug!(facility, "librdkafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka reports an error");
        reason.clone_into(&mut lock(&self.trouble));
        self.lost.fetch_add(1, Ordering::AcqRel);
    }
}

//! The way into Kafka: one idempotent producer for every outbox of the process.
//!
//! There is no future per record: each carries its page, which counts what is still unanswered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use outbox::headers::Headers;
use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{Header, Headers as _, Message as _, OwnedHeaders},
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer},
};

use crate::{config::Config, cursor::Row, pending::Pending};

/// The largest record that is given to Kafka: its default `max.message.bytes` less what a batch adds.
pub const RECORD_LIMIT: usize = 1_000_000;
/// How long a question for a topic's metadata may take.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

/// The shared producer.
#[derive(Clone)]
pub struct Producer(Arc<Inner>);

struct Inner {
    producer: ThreadedProducer<Context>,
    prefix: String,
    /// What the broker has said about each topic, by its name without prefix.
    topics: Mutex<HashMap<String, Known>>,
}

/// A topic that can be published to.
#[derive(Clone, Debug)]
pub struct Topic {
    /// With prefix.
    pub name: Arc<str>,
    /// Its partitions, as the broker says.
    pub partitions: i32,
}

struct Known {
    topic: Topic,
    /// Whether the broker is to be asked again before the next record.
    doubted: bool,
}

/// What a refusal says something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// This record will be refused again.
    Record,
    /// Every record of the topic is refused, until somebody mends the topic.
    Topic,
    /// Nothing: it may go well the next time.
    Nobody,
}

impl Refusal {
    /// Whose fault it is, if the record was refused alone: a batch is refused as a whole.
    pub fn blame(&self) -> Blame {
        use RDKafkaErrorCode as Code;
        match self {
            Self::NoTopic(_) | Self::PartitionsChanged { .. } => Blame::Topic,
            Self::NoPartition { .. } | Self::TooLarge { .. } | Self::Headers(_) => Blame::Record,
            Self::Purged | Self::Away(_) => Blame::Nobody,
            Self::Kafka { code, .. } => match code {
                Some(
                    Code::UnknownTopicOrPartition
                    | Code::UnknownTopic
                    | Code::UnknownPartition
                    | Code::TopicAuthorizationFailed
                    | Code::InvalidTopic
                    | Code::PolicyViolation,
                ) => Blame::Topic,
                Some(
                    Code::MessageSizeTooLarge
                    | Code::InvalidMessage
                    | Code::InvalidMessageSize
                    | Code::InvalidRecord
                    | Code::InvalidTimestamp
                    | Code::InvalidArgument
                    | Code::UnsupportedForMessageFormat,
                ) => Blame::Record,
                _ => Blame::Nobody,
            },
        }
    }
}

/// Why a record cannot be published now. Nothing is lost: it waits in the outbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The broker does not know the topic.
    #[error("topic {0} does not exist: create it (`orderly topics apply`)")]
    NoTopic(String),
    /// The topic has grown or was made anew.
    #[error(
        "topic {topic} had {before} partitions and has {now}: keys would move and lose their order; once its consumers \
         have read all of it, run `outbox-relay repartition`"
    )]
    PartitionsChanged {
        /// With prefix.
        topic: String,
        /// When it was first published to.
        before: i32,
        /// As the broker says.
        now: i32,
    },
    /// The row names a partition that the topic has not.
    #[error("topic {topic} has no partition {partition}")]
    NoPartition {
        /// With prefix.
        topic: String,
        /// As the row says.
        partition: i32,
    },
    /// Larger than Kafka takes.
    #[error("its record has {size} bytes, and at most {RECORD_LIMIT} can be published")]
    TooLarge {
        /// Key, headers and payload.
        size: usize,
    },
    /// The header bytes are not what the outbox crate writes.
    #[error("its headers cannot be read: {0}")]
    Headers(String),
    /// The broker, or the client for it, said no.
    #[error("{topic} refused it: {reason}")]
    Kafka {
        /// With prefix, and the partition where it is known.
        topic: String,
        /// The client's words.
        reason: String,
        /// The protocol's.
        code: Option<RDKafkaErrorCode>,
    },
    /// Another outbox has emptied the shared producer; nothing is wrong with the record.
    #[error("the producer was emptied")]
    Purged,
    /// No broker answered.
    #[error("Kafka does not answer: {0}")]
    Away(String),
}

impl Producer {
    /// Starts the client; it connects by itself, now or later.
    pub fn new(config: &Config) -> KafkaResult<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &config.kafka)
            .set("client.id", "outbox-relay")
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // Never give up by itself: a record that fails alone would be overtaken by its successors.
            .set("message.timeout.ms", "0")
            .set("linger.ms", "1")
            .set("compression.type", "lz4")
            // A batch is refused as a whole, so it stays below what a topic takes by default.
            .set("batch.size", "900000")
            .set("message.max.bytes", (RECORD_LIMIT + 48_588).to_string())
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "131072")
            .set("reconnect.backoff.max.ms", "1000")
            .set_log_level(RDKafkaLogLevel::Warning)
            .create_with_context(Context { trouble: Mutex::new(String::new()) })?;
        Ok(Self(Arc::new(Inner { producer, prefix: config.prefix.clone(), topics: Mutex::default() })))
    }

    /// What Kafka has last complained about, for words.
    pub fn trouble(&self) -> String {
        let trouble = lock(&self.0.producer.context().trouble).clone();
        if trouble.is_empty() { "no broker has answered".to_owned() } else { trouble }
    }

    /// The error after which this producer will never send again.
    pub fn fatal(&self) -> Option<String> {
        self.0.producer.client().fatal_error().map(|(code, reason)| format!("{code}: {reason}"))
    }

    /// A topic by its name without prefix, from memory where the broker was asked before.
    pub fn known(&self, logical: &str) -> Option<Topic> {
        lock(&self.0.topics).get(logical).filter(|known| !known.doubted).map(|known| known.topic.clone())
    }

    /// Has the broker asked again before the next record of a topic.
    pub fn doubt_topics(&self) {
        lock(&self.0.topics).values_mut().for_each(|known| known.doubted = true);
    }

    /// Asks the broker for a topic. Blocks for up to [`METADATA_TIMEOUT`].
    pub fn ask(&self, logical: &str) -> Result<Topic, Refusal> {
        let name = format!("{}{logical}", self.0.prefix);
        let topic = name.as_str();
        let away = |error: &dyn ToString| Refusal::Away(format!("{}; {}", error.to_string(), self.trouble()));
        let metadata = self.0.producer.client().fetch_metadata(Some(topic), METADATA_TIMEOUT);
        let metadata = metadata.map_err(|error| away(&error))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found = found.ok_or_else(|| away(&"the broker said nothing about the topic"))?;
        let now = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
        if let Some(error) = found.error() {
            return Err(match RDKafkaErrorCode::from(error) {
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                    Refusal::NoTopic(topic.to_owned())
                }
                code => {
                    Refusal::Kafka { topic: topic.to_owned(), reason: code.to_string(), code: Some(code) }
                }
            });
        }
        if now == 0 {
            return Err(Refusal::NoTopic(topic.to_owned()));
        }
        let topic = Topic { name: topic.into(), partitions: now };
        lock(&self.0.topics).insert(logical.to_owned(), Known { topic: topic.clone(), doubted: false });
        Ok(topic)
    }

    /// Queues a record. `false` when the queue is full for now.
    pub fn send(&self, record: &Record<'_>, page: &Arc<Pending>) -> Result<bool, Refusal> {
        let mut base = BaseRecord::with_opaque_to(&record.topic, page.clone()).partition(record.partition);
        if let Some(key) = &record.row.key {
            base = base.key(key.as_slice());
        }
        if let Some(payload) = &record.row.payload {
            base = base.payload(payload.as_slice());
        }
        page.add();
        match self.0.producer.send(base.headers(owned(&record.headers))) {
            Ok(()) => Ok(true),
            Err((error, _)) => {
                page.take_back();
                match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::QueueFull) => Ok(false),
                    code => Err(Refusal::Kafka {
                        topic: record.topic.to_string(),
                        reason: error.to_string(),
                        code,
                    }),
                }
            }
        }
    }

    /// Has everything that is not yet acknowledged answered with an error, of every outbox.
    pub fn purge(&self) {
        self.0.producer.purge(PurgeConfig::default().queue().inflight());
    }
}

/// A row that has been found publishable.
pub struct Record<'r> {
    /// The row it is made of.
    pub row: &'r Row,
    /// With prefix.
    pub topic: Arc<str>,
    partition: i32,
    headers: Headers,
}

impl<'r> Record<'r> {
    /// Finds what Kafka would refuse before Kafka does, for a refusal there takes the whole batch.
    pub fn new(row: &'r Row, topic: Topic) -> Result<Self, Refusal> {
        let size = row.size();
        if size > RECORD_LIMIT {
            return Err(Refusal::TooLarge { size });
        }
        let headers = Headers::decode(&row.headers).map_err(|error| Refusal::Headers(error.to_string()))?;
        if headers.iter().any(|(name, _)| name.contains('\0')) {
            return Err(Refusal::Headers("a name has a zero byte".to_owned()));
        }
        let partition = match row.partition {
            Some(partition) if (0..topic.partitions).contains(&partition) => partition,
            Some(partition) => return Err(Refusal::NoPartition { topic: topic.name.to_string(), partition }),
            None => crate::partitioner::partition(row.key.as_deref(), row.id, topic.partitions),
        };
        Ok(Self { row, topic: topic.name, partition, headers })
    }
}

fn owned(headers: &Headers) -> OwnedHeaders {
    let list = OwnedHeaders::new_with_capacity(headers.iter().len());
    headers.iter().fold(list, |list, (key, value)| list.insert(Header { key, value }))
}

struct Context {
    trouble: Mutex<String>,
}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, page: Arc<Pending>) {
        let Err((error, record)) = result else { return page.answered(None) };
        let refusal = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) => Refusal::Purged,
            code => Refusal::Kafka {
                topic: format!("{}/{}", record.topic(), record.partition()),
                reason: code.map_or_else(|| error.to_string(), |code| code.to_string()),
                code,
            },
        };
        let id = record.headers().and_then(|list| list.iter().find(|header| header.key == "ce_id")?.value);
        page.answered(Some((id.map(|id| String::from_utf8_lossy(id).into_owned()), refusal)));
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
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

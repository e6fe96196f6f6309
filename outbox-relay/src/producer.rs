//! The way into Kafka, for every outbox of the process.
//!
//! There is no future per record: each carries its page, which counts what is still unanswered.

mod client;
mod record;
mod refusal;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaResult, RDKafkaErrorCode},
};

use self::client::Client;
pub use self::{
    record::Record,
    refusal::{Blame, Refusal},
};
use crate::{config::Config, pending::Pending};

/// Kafka's default for a topic's `max.message.bytes`. The `outbox` crate appends nothing larger, so a topic that takes
/// more is treated like this.
const DEFAULT_LIMIT: usize = 1_048_588;
/// How long a question may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The shared producer.
#[derive(Clone)]
pub struct Producer(Arc<Inner>);

struct Inner {
    config: ClientConfig,
    prefix: String,
    admin: AdminClient<DefaultClientContext>,
    /// The client for topics with at least the default limit.
    main: Arc<Client>,
    /// `batch.size` is a client's, not a topic's: topics with less have another one, for each power of two.
    small: Mutex<BTreeMap<usize, Arc<Client>>>,
    /// What the broker has said about each topic, by its name without prefix.
    topics: Mutex<HashMap<String, Known>>,
}

/// A topic that can be published to.
#[derive(Clone)]
pub struct Topic {
    /// With prefix.
    pub name: Arc<str>,
    /// Its partitions, as the broker says.
    pub partitions: i32,
    /// The bytes of a batch, and so of a record, that it takes.
    pub limit: usize,
    client: Arc<Client>,
}

struct Known {
    topic: Topic,
    /// Whether the broker is to be asked again before the next record.
    doubted: bool,
}

impl Producer {
    /// Starts the client; it connects by itself, now or later.
    pub fn new(config: &Config) -> KafkaResult<Self> {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &config.kafka)
            .set("client.id", "outbox-relay")
            .set("reconnect.backoff.max.ms", "1000")
            .set_log_level(RDKafkaLogLevel::Warning);
        Ok(Self(Arc::new(Inner {
            main: Client::start(client.clone(), DEFAULT_LIMIT)?,
            admin: client.create()?,
            config: client,
            prefix: config.prefix.clone(),
            small: Mutex::default(),
            topics: Mutex::default(),
        })))
    }

    /// What Kafka has last complained about, for words.
    pub fn trouble(&self) -> String {
        let trouble = self.clients().map(|client| client.trouble()).find(|trouble| !trouble.is_empty());
        trouble.unwrap_or_else(|| "no broker has answered".to_owned())
    }

    /// The error after which this producer will never send again.
    pub fn fatal(&self) -> Option<String> {
        self.clients().find_map(|client| client.fatal())
    }

    /// Kafka's `cluster.id`. A broker is asked where a connection has failed since the last answer, for at most
    /// [`ANSWER_WITHIN`] and client: behind the same address there may be another cluster now. `None` when none answers.
    pub async fn cluster(&self) -> Option<String> {
        let known: Option<Vec<_>> = self.clients().map(|client| client.known_cluster()).collect();
        let clusters = match known {
            Some(known) => known,
            None => {
                let clients: Vec<_> = self.clients().collect();
                let ask = move || clients.iter().map(|client| client.cluster()).collect::<Option<Vec<_>>>();
                tokio::task::spawn_blocking(ask).await.ok()??
            }
        };
        // Where they differ one of them is wrong; then it is any other than the main client's.
        let main = clusters.first()?;
        clusters.iter().find(|cluster| *cluster != main).or(Some(main)).cloned()
    }

    /// A topic by its name without prefix, from memory where the broker was asked before.
    pub fn known(&self, logical: &str) -> Option<Topic> {
        lock(&self.0.topics).get(logical).filter(|known| !known.doubted).map(|known| known.topic.clone())
    }

    /// A topic's name without prefix.
    pub fn logical<'t>(&self, topic: &'t str) -> &'t str {
        topic.strip_prefix(&self.0.prefix).unwrap_or(topic)
    }

    /// Has the broker asked again before the next record of a topic.
    pub fn doubt_topics(&self) {
        lock(&self.0.topics).values_mut().for_each(|known| known.doubted = true);
    }

    /// Asks the broker for a topic: for each of its two questions at most [`ANSWER_WITHIN`].
    pub async fn ask(&self, logical: &str) -> Result<Topic, Refusal> {
        let name = format!("{}{logical}", self.0.prefix);
        let (producer, asked) = (self.clone(), name.clone());
        let asking = tokio::task::spawn_blocking(move || producer.partitions(&asked));
        let partitions = asking.await.map_err(|error| self.away(&error))??;
        let limit = self.limit(&name).await?;
        let client = self.client(limit).map_err(|error| self.away(&error))?;
        let topic = Topic { name: name.into(), partitions, limit, client };
        lock(&self.0.topics).insert(logical.to_owned(), Known { topic: topic.clone(), doubted: false });
        Ok(topic)
    }

    /// Queues a record. `false` when the queue is full for now.
    pub fn send(&self, record: &Record<'_>, page: &Arc<Pending>) -> Result<bool, Refusal> {
        record.client.send(record, page)
    }

    /// Has everything that is not yet sent answered with an error, of every outbox, and with `sent` what is not yet
    /// acknowledged, too.
    pub fn purge(&self, sent: bool) {
        self.clients().for_each(|client| client.purge(sent));
    }

    fn partitions(&self, name: &str) -> Result<i32, Refusal> {
        let metadata = self.0.main.native().fetch_metadata(Some(name), ANSWER_WITHIN);
        let metadata = metadata.map_err(|error| self.away(&error))?;
        let found = metadata.topics().iter().find(|found| found.name() == name);
        let found = found.ok_or_else(|| self.away(&"the broker said nothing about the topic"))?;
        if let Some(error) = found.error() {
            return Err(match RDKafkaErrorCode::from(error) {
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                    Refusal::NoTopic(name.to_owned())
                }
                code => Refusal::Kafka { topic: name.to_owned(), reason: code.to_string(), code: Some(code) },
            });
        }
        match i32::try_from(found.partitions().len()).unwrap_or(i32::MAX) {
            0 => Err(Refusal::NoTopic(name.to_owned())),
            partitions => Ok(partitions),
        }
    }

    /// The topic's `max.message.bytes`; the default where the relay is not allowed to ask.
    async fn limit(&self, name: &str) -> Result<usize, Refusal> {
        let options = AdminOptions::new().request_timeout(Some(ANSWER_WITHIN));
        let described = self.0.admin.describe_configs(&[ResourceSpecifier::Topic(name)], &options).await;
        let limit = match described.map_err(|error| self.away(&error))?.pop() {
            Some(Ok(topic)) => topic
                .entry_map()
                .get("max.message.bytes")
                .and_then(|entry| entry.value.as_deref()?.parse().ok()),
            Some(Err(
                RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed,
            )) => {
                tracing::debug!(topic = name, "the topic's max.message.bytes is not for the relay to see");
                None
            }
            // With a wrong limit whole batches would be refused.
            Some(Err(code)) => {
                return Err(self.away(&format!("no answer about the topic's settings: {code}")));
            }
            None => return Err(self.away(&"no answer about the topic's settings")),
        };
        Ok(limit.map_or(DEFAULT_LIMIT, |limit: usize| limit.min(DEFAULT_LIMIT)))
    }

    /// The client whose batches such a topic takes.
    fn client(&self, limit: usize) -> KafkaResult<Arc<Client>> {
        if limit == DEFAULT_LIMIT {
            return Ok(self.0.main.clone());
        }
        let limit = 1 << limit.max(1).ilog2();
        let mut small = lock(&self.0.small);
        if let Some(client) = small.get(&limit) {
            return Ok(client.clone());
        }
        let client = Client::start(self.0.config.clone(), limit)?;
        small.insert(limit, client.clone());
        Ok(client)
    }

    fn clients(&self) -> impl Iterator<Item = Arc<Client>> {
        let small: Vec<_> = lock(&self.0.small).values().cloned().collect();
        std::iter::once(self.0.main.clone()).chain(small)
    }

    fn away(&self, error: &dyn ToString) -> Refusal {
        Refusal::Away(format!("{}; {}", error.to_string(), self.trouble()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

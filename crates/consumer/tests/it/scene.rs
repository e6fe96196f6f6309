//! A database and topics of one test, and a service that writes down what it is told.

use std::{sync::Arc, time::Duration};

use consumer::{
    Consumer, EventType, HandleError, Handler, KafkaArgs, Limits, Message, Metrics, Policy, Subscription,
    Topic,
    dead_letters::{Act, Filter, Progress, progress},
};
use outbox::{Event, Roles, Source};
use prost::Name;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, postgres::PgPoolOptions};
use telemetry::Heartbeat;
use testkit::{Servers, until};
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long anything may take, joining the group included.
pub const WITHIN: Duration = Duration::from_secs(60);
/// Who the tests are in the audit.
pub const ACT: Act<'static> = Act { actor: "tests", reason: "because" };
/// Of every topic here.
pub const PARTITIONS: i32 = 2;

const PASSWORD: &str = "tests-on-loopback";
const TABLES: &str = "
    create table effect (
        seq bigint generated always as identity, key text, text text not null, transaction xid8 default pg_current_xact_id()
    );
    create table parent (id integer primary key);
    create table child (parent integer references parent deferrable initially deferred);
    -- Texts that the handler cannot process, and how it fails.
    create table broken (text text primary key, how text not null);";

/// The events of these tests; their payload is only text.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Note {}

impl Name for Note {
    const NAME: &'static str = "Note";
    const PACKAGE: &'static str = "tests.v1";
}

const EVENTS: &[EventType] = &[EventType::of::<Note>()];
/// One topic for each policy.
pub const NOTES: &str = "notes";
pub const BLOCKING: &str = "blocking";
pub const SKIPPING: &str = "skipping";

const TOPICS: &[Topic] = &[
    Topic::new(NOTES, EVENTS),
    Topic { policy: Policy::Block, ..Topic::new(BLOCKING, EVENTS) },
    Topic { policy: Policy::Skip, ..Topic::new(SKIPPING, EVENTS) },
];

/// The subscription of every worker here.
pub const SUBSCRIPTION: Subscription =
    Subscription { group: "notes", topics: TOPICS, limits: Limits::DEFAULT };

/// Writes down what a record says, unless it is broken.
pub struct Notes;

impl Handler for Notes {
    async fn handle(
        &self,
        connection: &mut PgConnection,
        message: &Message,
    ) -> Result<Vec<Event>, HandleError> {
        let text = String::from_utf8_lossy(message.payload.as_deref().unwrap_or_default()).into_owned();
        let key = message.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned());
        // Before it fails: what is not taken back would be seen.
        sqlx::query("insert into effect (key, text) values ($1, $2)")
            .bind(key)
            .bind(&text)
            .execute(&mut *connection)
            .await?;
        let how: Option<String> = sqlx::query_scalar("select how from broken where text = $1")
            .bind(&text)
            .fetch_optional(&mut *connection)
            .await?;
        let event = |bytes| Event {
            payload: Some(vec![0; bytes]),
            ..Source::new("/tests").event(NOTES, Uuid::now_v7(), 1, &Note {})
        };
        match how.as_deref() {
            None => Ok(Vec::new()),
            Some("poison") => Err(HandleError::poison(format!("field text is {text}"))),
            Some("panic") => panic!("a bug in the handler"),
            Some("event") => Ok(vec![event(10)]),
            Some("swallow") => {
                let _ = sqlx::raw_sql("select 1 / 0").execute(connection).await;
                Ok(Vec::new())
            }
            Some("large") => Ok(vec![event(outbox::MAX_EVENT_BYTES)]),
            Some(how) => {
                let sql = match how {
                    "data" => "select 1 / 0",
                    "deferred" => "insert into child values (-1)",
                    "config" => "select from missing",
                    "slow" => "set local statement_timeout = 200; select pg_sleep(60)",
                    _ => "select pg_terminate_backend(pg_backend_pid())",
                };
                sqlx::raw_sql(sql).execute(connection).await?;
                Ok(Vec::new())
            }
        }
    }
}

/// Dropping it drops the database, its roles and the topics.
pub struct Scene {
    pub owner: PgPool,
    pub operator: PgPool,
    pub kafka: KafkaArgs,
    name: String,
    server: String,
    producer: FutureProducer,
}

/// A consumer at work. Dropping it kills it, as far as that goes within a process.
pub struct Worker {
    pub heartbeat: Arc<Heartbeat>,
    pub metrics: telemetry::Metrics,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), consumer::Error>>,
}

impl Scene {
    pub async fn set() -> anyhow::Result<Self> {
        Self::set_on(testkit::servers().await?.clone()).await
    }

    pub async fn set_on(servers: Servers) -> anyhow::Result<Self> {
        let name = format!("consumer_{}", Uuid::now_v7().simple());
        let server = servers.postgres;
        let owner = connect(&format!("{server}/postgres"), 1).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("create database {name}"))).execute(&owner).await?;
        let owner = connect(&format!("{server}/{name}"), 4).await?;
        let [app, operator, audit] = ["app", "operator", "audit"].map(|role| format!("{name}_{role}"));
        for role in [&app, &operator, &audit] {
            let create = format!("create role {role} login password '{PASSWORD}'");
            sqlx::raw_sql(AssertSqlSafe(create)).execute(&owner).await?;
        }
        let roles = Roles { app: &app, relay: &audit, audit: &audit, operator: &operator };
        outbox::migrate(&owner, &roles).await?;
        consumer::migrate(&owner, &roles).await?;
        let grants = format!("{TABLES} grant select, insert on effect, broken, child to {app}");
        sqlx::raw_sql(AssertSqlSafe(grants)).execute(&owner).await?;
        let kafka = KafkaArgs { kafka: servers.kafka, prefix: format!("{name}-") };
        let producer = client(&kafka).set("message.timeout.ms", "60000").set("linger.ms", "5").create()?;
        let mut scene = Self { operator: owner.clone(), owner, kafka, name, server, producer };
        scene.operator = scene.pool("operator", 4).await?;
        let topics = scene.topics();
        let topics = topics.iter().map(|topic| NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1)));
        for made in scene.admin()?.create_topics(&topics.collect::<Vec<_>>(), &AdminOptions::new()).await? {
            made.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
        }
        Ok(scene)
    }

    fn topics(&self) -> Vec<String> {
        TOPICS.iter().map(|topic| format!("{}{}", self.kafka.prefix, topic.name)).collect()
    }

    /// Has Kafka forget how far the group has read: everything comes again.
    pub async fn forget_offsets(&self) -> anyhow::Result<()> {
        let group = format!("{}{}", self.kafka.prefix, SUBSCRIPTION.group);
        for deleted in self.admin()?.delete_groups(&[&group], &AdminOptions::new()).await? {
            deleted.map_err(|(group, code)| anyhow::anyhow!("{group}: {code}"))?;
        }
        Ok(())
    }

    /// For what the tests do to topics and groups.
    pub fn admin(&self) -> anyhow::Result<AdminClient<DefaultClientContext>> {
        Ok(client(&self.kafka).create()?)
    }

    /// A pool of a role: `app`, `operator` or `audit`.
    pub async fn pool(&self, role: &str, connections: u32) -> anyhow::Result<PgPool> {
        let host = self.server.rsplit('@').next().unwrap_or_default();
        connect(&format!("postgres://{0}_{role}:{PASSWORD}@{host}/{0}", self.name), connections).await
    }

    /// Starts a worker of the group.
    pub async fn worker(&self) -> anyhow::Result<Worker> {
        let (heartbeat, shutdown) = (Arc::new(Heartbeat::new("worker")), CancellationToken::new());
        let metrics = telemetry::Metrics::new();
        let consumer = Consumer {
            subscription: SUBSCRIPTION,
            kafka: self.kafka.clone(),
            pool: self.pool("app", 4).await?,
            handler: Notes,
            after_commit: Arc::new(Notify::new()),
            heartbeat: heartbeat.clone(),
            metrics: Metrics::register(&metrics, &SUBSCRIPTION),
            version: "1.2.3",
        };
        let running = tokio::spawn(consumer.run(shutdown.clone()));
        Ok(Worker { heartbeat, metrics, shutdown, running })
    }

    /// Has the handler fail for this text from now on.
    pub async fn break_for(&self, text: &str, how: &str) -> anyhow::Result<()> {
        let insert = "insert into broken values ($1, $2)";
        sqlx::query(insert).bind(text).bind(how).execute(&self.owner).await?;
        Ok(())
    }

    /// Mends the handler.
    pub async fn mend(&self) -> anyhow::Result<()> {
        sqlx::raw_sql("delete from broken").execute(&self.owner).await?;
        Ok(())
    }

    /// Sends an event with this text, in a partition that the key says.
    pub async fn send(&self, topic: &str, key: &str, text: &str) -> anyhow::Result<()> {
        self.send_all(topic, &[(key.to_owned(), text.to_owned())]).await
    }

    /// Sends events in their order.
    pub async fn send_all(&self, topic: &str, notes: &[(String, String)]) -> anyhow::Result<()> {
        let topic = format!("{}{topic}", self.kafka.prefix);
        let mut sent = Vec::new();
        for (key, text) in notes {
            let headers = event_headers(&Uuid::now_v7().to_string(), &Note::full_name());
            let record = FutureRecord::to(&topic).key(key).payload(text).headers(headers);
            let record = record.partition(partition_of(key));
            sent.push(self.producer.send_result(record).map_err(|(error, _)| error)?);
        }
        for sent in sent {
            sent.await?.map_err(|(error, _)| error)?;
        }
        Ok(())
    }

    /// Sends whatever it is, in partition 0.
    pub async fn send_raw(
        &self,
        topic: &str,
        key: Option<&str>,
        payload: Option<&[u8]>,
        headers: OwnedHeaders,
    ) -> anyhow::Result<()> {
        let topic = format!("{}{topic}", self.kafka.prefix);
        let mut record: FutureRecord<'_, str, [u8]> = FutureRecord::to(&topic).partition(0).headers(headers);
        (record.key, record.payload) = (key, payload);
        self.producer.send(record, WITHIN).await.map_err(|(error, _)| error)?;
        Ok(())
    }

    /// The texts that took effect, in their order.
    pub async fn effects(&self) -> anyhow::Result<Vec<String>> {
        Ok(sqlx::query_scalar("select text from effect order by seq").fetch_all(&self.owner).await?)
    }

    /// Waits for so many effects.
    pub async fn took_effect(&self, count: usize) -> anyhow::Result<Vec<String>> {
        until(&format!("{count} effects"), WITHIN, || async {
            let effects = self.effects().await?;
            Ok((effects.len() >= count).then_some(effects))
        })
        .await
    }

    /// How many dead letters are in this state.
    pub async fn letters(&self, state: &str) -> anyhow::Result<i64> {
        let count = "select count(*) from inbox.dead_letter where state = $1";
        Ok(sqlx::query_scalar(count).bind(state).fetch_one(&self.owner).await?)
    }

    /// Waits until so many dead letters are in this state.
    pub async fn has_letters(&self, count: i64, state: &str) -> anyhow::Result<()> {
        until(&format!("{count} letters that are {state}"), WITHIN, || async {
            Ok((self.letters(state).await? == count).then_some(()))
        })
        .await
    }

    /// Orders a replay of everything, and waits for its end.
    pub async fn replay(&self) -> anyhow::Result<Progress> {
        let ordered = consumer::dead_letters::replay(&self.operator, &Filter::default(), None, ACT).await?;
        anyhow::ensure!(ordered.len() == 1, "one consumer, one replay: {ordered:?}");
        self.ended(ordered[0].id).await
    }

    /// Waits for the end of a replay.
    pub async fn ended(&self, replay: Uuid) -> anyhow::Result<Progress> {
        until("the replay ends", WITHIN, || async {
            let progress = progress(&self.operator, &[replay]).await?;
            Ok(progress.into_iter().find(|progress| progress.state != "running"))
        })
        .await
    }

    /// One number from the database.
    pub async fn number(&self, sql: &'static str) -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar(sql).fetch_one(&self.owner).await?)
    }
}

impl Worker {
    /// Ends it as a shutdown does.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        let running = self.running;
        Ok(tokio::time::timeout(WITHIN, running).await???)
    }

    /// Ends it in the middle of what it does.
    pub fn kill(self) {
        self.running.abort();
    }

    /// Waits until it says what keeps it from its work.
    pub async fn complains(&self, words: &str) -> anyhow::Result<String> {
        until(&format!("the worker says {words:?}"), WITHIN, || async {
            Ok(self.heartbeat.trouble().filter(|trouble| trouble.contains(words)))
        })
        .await
    }
}

/// The partition that a key has in these tests.
pub fn partition_of(key: &str) -> i32 {
    key.bytes().map(i32::from).sum::<i32>() % PARTITIONS
}

/// Headers that make an event of a record.
pub fn event_headers(id: &str, event_type: &str) -> OwnedHeaders {
    [("ce_source", "/tests"), ("ce_id", id), ("ce_type", event_type)]
        .into_iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

/// Notes of some keys in turn: `a1 b1 a2 b2 ...`.
pub fn notes(keys: &[&str], each: usize) -> Vec<(String, String)> {
    let turns = (1..=each).flat_map(|turn| keys.iter().map(move |key| (key, turn)));
    turns.map(|(key, turn)| ((*key).to_owned(), format!("{key}{turn}"))).collect()
}

fn client(kafka: &KafkaArgs) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.kafka);
    config
}

async fn connect(url: &str, connections: u32) -> anyhow::Result<PgPool> {
    Ok(PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(3))
        .connect(url)
        .await?)
}

impl Drop for Scene {
    fn drop(&mut self) {
        let scene = &*self;
        let _ = std::thread::scope(|scope| {
            let dropping = scope.spawn(|| -> anyhow::Result<()> {
                tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                    let topics = scene.topics();
                    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                    scene.admin()?.delete_topics(&topics, &AdminOptions::new()).await?;
                    let superuser = connect(&format!("{}/postgres", scene.server), 1).await?;
                    let name = &scene.name;
                    for sql in [
                        format!("drop database {name} with (force)"),
                        format!("drop role {name}_app, {name}_operator, {name}_audit"),
                    ] {
                        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&superuser).await?;
                    }
                    Ok(())
                })
            });
            dropping.join()
        });
    }
}

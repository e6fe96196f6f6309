//! A record that PostgreSQL will never take is found among good ones: what is left of it takes effect, nothing right of it.

use std::{sync::Arc, time::Duration};

use consumer::{Consumer, HandleError, Handler, KafkaArgs, Message, Metrics, Subscription};
use outbox::{Event, Roles};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use telemetry::Heartbeat;
use testkit::until;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const WITHIN: Duration = Duration::from_secs(60);
const ROLE: &str = "consumer_tests";
const SUBSCRIPTION: Subscription = Subscription { group: "notes", topics: &["notes"] };

/// Writes down what a record says, and looks at nothing.
struct Notes;

impl Handler for Notes {
    async fn handle(
        &self,
        connection: &mut PgConnection,
        message: &Message,
    ) -> Result<Vec<Event>, HandleError> {
        let text = String::from_utf8_lossy(&message.payload).into_owned();
        sqlx::query("insert into note values ($1)").bind(text).execute(connection).await?;
        Ok(Vec::new())
    }
}

/// Dropping it drops the database and the topic.
struct Scene {
    server: String,
    name: String,
    kafka: KafkaArgs,
}

impl Scene {
    async fn set() -> anyhow::Result<(Self, PgPool)> {
        let servers = testkit::servers().await?;
        let name = format!("consumer_{}", Uuid::now_v7().simple());
        let kafka = KafkaArgs { kafka: servers.kafka.clone(), prefix: format!("{name}-") };
        let scene = Self { server: servers.postgres.clone(), name, kafka };
        let create = [
            format!("do $$ begin create role {ROLE}; exception when duplicate_object then null; end $$"),
            format!("create database {}", scene.name),
        ];
        let superuser = PgPool::connect(&format!("{}/postgres", scene.server)).await?;
        for sql in create {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&superuser).await?;
        }
        let pool = PgPool::connect(&format!("{}/{}", scene.server, scene.name)).await?;
        let roles = Roles { app: ROLE, relay: ROLE, audit: ROLE };
        outbox::migrate(&pool, &roles).await?;
        consumer::migrate(&pool, &roles).await?;
        sqlx::raw_sql("create table note (text text)").execute(&pool).await?;
        let topic = scene.topic();
        let topic = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
        for created in scene.admin()?.create_topics([&topic], &AdminOptions::new()).await? {
            created.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
        }
        Ok((scene, pool))
    }

    fn topic(&self) -> String {
        format!("{}notes", self.kafka.prefix)
    }

    fn admin(&self) -> anyhow::Result<AdminClient<DefaultClientContext>> {
        Ok(ClientConfig::new().set("bootstrap.servers", &self.kafka.kafka).create()?)
    }

    async fn publish(&self, payload: &str) -> anyhow::Result<()> {
        let producer: FutureProducer =
            ClientConfig::new().set("bootstrap.servers", &self.kafka.kafka).create()?;
        let id = Uuid::now_v7().to_string();
        let headers = [("ce_source", "/tests"), ("ce_id", &id), ("ce_type", "tests.Note")];
        let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(*value) })
        });
        let topic = self.topic();
        let record = FutureRecord::to(&topic).key("k").payload(payload).headers(headers);
        producer.send(record, WITHIN).await.map_err(|(error, _)| error)?;
        Ok(())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let scene = &*self;
        let _ = std::thread::scope(|scope| {
            let dropping = scope.spawn(|| -> anyhow::Result<()> {
                tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                    scene.admin()?.delete_topics(&[&scene.topic()], &AdminOptions::new()).await?;
                    let superuser = PgPool::connect(&format!("{}/postgres", scene.server)).await?;
                    let drop = format!("drop database {} with (force)", scene.name);
                    sqlx::raw_sql(AssertSqlSafe(drop)).execute(&superuser).await?;
                    Ok(())
                })
            });
            dropping.join()
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_postgres_will_never_take_stops_the_consumer_there_and_by_name() -> anyhow::Result<()> {
    let (scene, pool) = Scene::set().await?;
    for payload in ["one", "two", "zero\0byte", "four"] {
        scene.publish(payload).await?;
    }
    let heartbeat = Arc::new(Heartbeat::new("worker"));
    let shutdown = CancellationToken::new();
    let consumer = Consumer {
        subscription: SUBSCRIPTION,
        kafka: scene.kafka.clone(),
        pool: pool.clone(),
        handler: Notes,
        after_commit: Arc::new(Notify::new()),
        heartbeat: heartbeat.clone(),
        metrics: telemetry::Metrics::new().register(Metrics::register),
    };
    let running = tokio::spawn(consumer.run(shutdown.clone()));
    let words =
        until("the consumer stops", WITHIN, || async { Ok(heartbeat.stopped().map(str::to_owned)) }).await?;
    assert!(words.starts_with("record notes[0]@2 cannot be processed: "), "{words}");
    assert!(words.contains("invalid byte sequence"), "PostgreSQL's own words: {words}");
    let notes: Vec<String> = sqlx::query_scalar("select text from note").fetch_all(&pool).await?;
    assert_eq!(notes, ["one", "two"]);
    let inbox: i64 = sqlx::query_scalar("select count(*) from inbox.message").fetch_one(&pool).await?;
    assert_eq!(inbox, 2, "what did not take effect is not in the inbox");
    shutdown.cancel();
    tokio::time::timeout(WITHIN, running).await???;
    pool.close().await;
    Ok(())
}

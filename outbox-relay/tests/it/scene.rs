//! One test's world: a database with an outbox and a little business, topics under a prefix, room for logs.

use std::{fs, path::PathBuf, str::FromStr as _, time::Duration};

use anyhow::Context as _;
use outbox::Roles;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use testkit::{Servers, servers, until};
use tokio::process::Command;
use uuid::Uuid;

use crate::{records::Records, relay::Relay};

/// Names without prefix, and partitions.
pub type Topics = &'static [(&'static str, i32)];

/// The topics of every scene.
pub const TOPICS: Topics = &[("alpha", 6), ("beta", 3), ("gamma", 1)];
/// How many accounts there are: each is a key whose events have an order.
pub const KEYS: i32 = 60;

/// Everybody's password: the servers listen on loopback and live as long as the tests.
const PASSWORD: &str = "tests-on-loopback";
const ROLES: Roles<'_> = Roles {
    app: "relay_tests_app",
    relay: "orderly_relay",
    audit: "orderly_audit",
    operator: "orderly_audit",
};
/// What the transactions of the writers are about. An account's row is the lock that every writer of its key holds;
/// `posting` is the truth about what was committed, which no relay and no ring maintenance ever touches.
const BUSINESS: &str = "
    create table account (key text primary key, version bigint not null default 0);
    create table posting (
        event_id uuid primary key, topic text not null, key text not null, sequence bigint not null);
    grant select, update on account to relay_tests_app;
    grant select, insert on posting to relay_tests_app;";
const WITHIN: Duration = Duration::from_secs(20);

/// Dropping it drops the database and the topics. The logs stay when the test has not come to [`Scene::end`].
pub struct Scene {
    /// Where it is.
    pub servers: Servers,
    /// Prefix of its topics.
    pub prefix: String,
    /// Of the superuser.
    pub superuser: PgPool,
    /// Of the relays.
    pub folder: PathBuf,
    database: String,
    passed: bool,
}

impl Scene {
    /// On the shared servers.
    pub async fn set() -> anyhow::Result<Self> {
        Self::set_on(servers().await?.clone()).await
    }

    /// On these servers.
    pub async fn set_on(servers: Servers) -> anyhow::Result<Self> {
        let id = Uuid::now_v7().simple().to_string();
        let (database, prefix) = (format!("relay_{id}"), format!("r{id}-"));
        let folder = std::env::temp_dir().join(format!("orderly-relay-{id}"));
        fs::create_dir_all(&folder)?;
        let superuser = create_database(&servers.postgres, &database).await?;
        let scene = Self { servers, prefix, superuser, folder, database, passed: false };
        outbox::migrate(&scene.superuser, &ROLES).await?;
        sqlx::raw_sql(BUSINESS).execute(&scene.superuser).await?;
        sqlx::query("insert into account (key) select 'account-' || n from generate_series(1, $1) as n")
            .bind(KEYS)
            .execute(&scene.superuser)
            .await?;
        scene.create_topics().await?;
        Ok(scene)
    }

    /// Creates the topics of every scene.
    pub async fn create_topics(&self) -> anyhow::Result<()> {
        for (topic, partitions) in TOPICS {
            self.create_topic(topic, *partitions, &[]).await?;
        }
        Ok(())
    }

    /// Moves the database to another server, as a backup that is restored there does.
    pub async fn restore_to(&mut self, servers: Servers) -> anyhow::Result<()> {
        let url = format!("{}/{}", self.servers.postgres, self.database);
        let dump = Command::new("pg_dump").args(["--dbname", &url]).output().await?;
        anyhow::ensure!(dump.status.success(), "pg_dump: {}", String::from_utf8_lossy(&dump.stderr));
        self.superuser.close().await;
        self.take_away().await?;
        self.servers = servers;
        self.superuser = create_database(&self.servers.postgres, &self.database).await?;
        let (file, url) =
            (self.folder.join("dump.sql"), format!("{}/{}", self.servers.postgres, self.database));
        fs::write(&file, dump.stdout)?;
        let mut psql = Command::new("psql");
        psql.args(["--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--dbname", &url, "--file"])
            .arg(&file);
        let restored = psql.output().await?;
        anyhow::ensure!(restored.status.success(), "psql: {}", String::from_utf8_lossy(&restored.stderr));
        Ok(())
    }

    /// A relay of this outbox; it is not ready yet.
    pub fn relay(&self, name: &str) -> anyhow::Result<Relay> {
        self.relay_at(name, &self.url(ROLES.relay))
    }

    /// A relay that is given this address of the outbox.
    pub fn relay_at(&self, name: &str, url: &str) -> anyhow::Result<Relay> {
        self.spawn(name, url, &[])
    }

    /// A relay with these variables in its environment.
    pub fn relay_with(&self, name: &str, variables: &[(&str, &str)]) -> anyhow::Result<Relay> {
        self.spawn(name, &self.url(ROLES.relay), variables)
    }

    fn spawn(&self, name: &str, url: &str, variables: &[(&str, &str)]) -> anyhow::Result<Relay> {
        let log = self.folder.join(format!("{name}.log"));
        Relay::spawn(url, &self.servers.kafka, &self.prefix, &log, variables)
    }

    /// The direct address for a role of [`outbox::Roles`].
    pub fn url(&self, role: &str) -> String {
        let host = self.servers.postgres.rsplit('@').next().unwrap_or_default();
        format!("postgres://{role}:{PASSWORD}@{host}/{}", self.database)
    }

    /// The name of its database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// How a writer connects: who waits for somebody's lock for too long gives up.
    pub fn writer(&self) -> anyhow::Result<PgConnectOptions> {
        Ok(PgConnectOptions::from_str(&self.url(ROLES.app))?.options([("lock_timeout", "100ms")]))
    }

    /// Creates a topic, named without prefix.
    pub async fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let name = format!("{}{topic}", self.prefix);
        let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        topic.config = settings.to_vec();
        for result in self.kafka_admin()?.create_topics([&topic], &options()).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
        }
        Ok(())
    }

    /// Administers Kafka.
    pub fn kafka_admin(&self) -> anyhow::Result<AdminClient<DefaultClientContext>> {
        Ok(ClientConfig::new().set("bootstrap.servers", &self.servers.kafka).create()?)
    }

    /// What is in the topics of every scene.
    pub fn records(&self) -> anyhow::Result<Records> {
        Records::of(&self.servers.kafka, &self.prefix, TOPICS)
    }

    /// The lease's epoch: how often it was taken.
    pub async fn epoch(&self) -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar("select epoch from outbox.cursor").fetch_one(&self.superuser).await?)
    }

    /// Frees the lease, whoever has it, so that nobody has to wait for its end.
    pub async fn free_lease(&self) -> anyhow::Result<()> {
        sqlx::query("update outbox.cursor set owner = null").execute(&self.superuser).await?;
        Ok(())
    }

    /// Ends the sessions of all relays.
    pub async fn cut_off_relays(&self) -> anyhow::Result<()> {
        self.cut_off_relays_from(&mut *self.superuser.acquire().await?).await
    }

    /// The same, with a session that is there already.
    pub async fn cut_off_relays_from(&self, session: &mut PgConnection) -> anyhow::Result<()> {
        let end = "select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and usename = $1";
        sqlx::query(end).bind(ROLES.relay).execute(session).await?;
        Ok(())
    }

    /// Rows of a table of the outbox.
    pub async fn count(&self, table: &str) -> anyhow::Result<i64> {
        let count = format!("select count(*) from outbox.{table}");
        Ok(sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&self.superuser).await?)
    }

    /// Waits until the cursor covers every event that is committed.
    pub async fn drained(&self, within: Duration) -> anyhow::Result<()> {
        let left =
            "select count(*) from outbox.event, outbox.cursor where not pg_visible_in_snapshot(xid, snap)";
        until("the outbox is drained", within, || async {
            let left: i64 = sqlx::query_scalar(left).fetch_one(&self.superuser).await?;
            Ok((left == 0).then_some(()))
        })
        .await
    }

    /// Waits until a table of the outbox has no rows.
    pub async fn emptied(&self, table: &str, within: Duration) -> anyhow::Result<()> {
        until(&format!("outbox.{table} is empty"), within, || async {
            Ok((self.count(table).await? == 0).then_some(()))
        })
        .await
    }

    /// Waits until so few events wait, because writers go on.
    pub async fn drained_but(&self, few: u64, within: Duration) -> anyhow::Result<()> {
        let waiting = "select count(*) from outbox.event, outbox.cursor
            where xid >= pg_snapshot_xmin(snap) and not pg_visible_in_snapshot(xid, snap)
                and not (win is not null and id <= win_id)";
        until("few events wait", within, || async {
            let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&self.superuser).await?;
            Ok((waiting.unsigned_abs() < few).then_some(()))
        })
        .await
    }

    /// The test has passed, unless a relay has panicked.
    pub fn end(mut self) -> anyhow::Result<()> {
        for log in fs::read_dir(&self.folder)? {
            let log = fs::read_to_string(log?.path())?;
            let panic = log.lines().find(|line| line.contains("panicked"));
            anyhow::ensure!(panic.is_none(), "a relay has panicked: {}", panic.unwrap_or_default());
        }
        self.passed = true;
        Ok(())
    }

    async fn take_away(&self) -> anyhow::Result<()> {
        let mut connection = self.connect(&self.database).await?;
        let prepared: Vec<String> =
            sqlx::query_scalar("select gid from pg_prepared_xacts where database = current_database()")
                .fetch_all(&mut connection)
                .await?;
        for gid in prepared {
            sqlx::raw_sql(AssertSqlSafe(format!("rollback prepared '{gid}'")))
                .execute(&mut connection)
                .await?;
        }
        connection.close().await?;
        let drop = format!("drop database {} with (force)", self.database);
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut self.connect("postgres").await?).await?;
        Ok(())
    }

    async fn connect(&self, database: &str) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&format!("{}/{database}", self.servers.postgres)).await?)
    }

    async fn delete_topics(&self) -> anyhow::Result<()> {
        let admin = self.kafka_admin()?;
        let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(5))?;
        let topics: Vec<&str> = metadata.topics().iter().map(|topic| topic.name()).collect();
        let topics: Vec<&str> = topics.into_iter().filter(|topic| topic.starts_with(&self.prefix)).collect();
        admin.delete_topics(&topics, &options()).await.context("delete the topics")?;
        Ok(())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let scene = &*self;
        // Drop cannot wait for a future on the test's own runtime. What fails here belongs to a server that is gone.
        let _ = std::thread::scope(|scope| {
            scope
                .spawn(|| -> anyhow::Result<()> {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                    let _ = runtime.block_on(scene.take_away());
                    runtime.block_on(scene.delete_topics())
                })
                .join()
        });
        if self.passed {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// An empty database, and the roles; returns the superuser's sessions in it.
async fn create_database(postgres: &str, database: &str) -> anyhow::Result<PgPool> {
    let mut connection = PgConnection::connect(&format!("{postgres}/postgres")).await?;
    for role in [ROLES.app, ROLES.relay, ROLES.audit] {
        let create = format!(
            "do $$ begin create role {role} login password '{PASSWORD}';
            exception when duplicate_object or unique_violation then null; end $$"
        );
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await?;
    }
    sqlx::raw_sql(AssertSqlSafe(format!("create database {database}"))).execute(&mut connection).await?;
    connection.close().await?;
    Ok(PgPoolOptions::new().max_connections(4).connect_lazy(&format!("{postgres}/{database}"))?)
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(WITHIN)).request_timeout(Some(WITHIN))
}

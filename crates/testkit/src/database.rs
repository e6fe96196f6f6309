//! A database of its own for each test, cloned from a migrated template.

use anyhow::Context as _;
use outbox::Roles;
use service::App;
use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};
use uuid::Uuid;

use crate::servers;

/// Everybody's password: the servers listen on loopback and live as long as the tests.
const PASSWORD: &str = "tests-on-loopback";
/// Serialises who makes a template.
const TEMPLATE_LOCK: i64 = 0x74_65_6d_70;

/// A migrated database; dropped with this value, also when the test fails.
#[derive(Debug)]
pub struct Database {
    name: String,
    server: String,
    app_role: String,
}

impl Database {
    /// A new database of this service, with the roles and grants of production.
    ///
    /// # Errors
    /// When the server does not start, or the migrations fail.
    pub async fn create<A: App>() -> anyhow::Result<Self> {
        Self::create_on::<A>(&servers().await?.postgres).await
    }

    /// A new database on this server, an address as in [`Servers`](crate::Servers).
    ///
    /// # Errors
    /// As of [`Database::create`].
    pub async fn create_on<A: App>(server: &str) -> anyhow::Result<Self> {
        let server = server.to_owned();
        let app_role = format!("orderly_{}_app", A::NAME);
        // A template belongs to one build of the migrations.
        let template = format!("template_{}_{}", A::NAME, build_id()?);
        let superuser = connect(&format!("{server}/postgres"), 1).await?;
        let mut connection = superuser.acquire().await?;
        sqlx::query("select pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut *connection).await?;
        let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(&template)
            .fetch_one(&mut *connection)
            .await?;
        if !exists {
            let roles = Roles {
                app: &app_role,
                relay: "orderly_relay",
                audit: "orderly_audit",
                operator: "orderly_operator",
            };
            for role in [roles.app, roles.relay, roles.audit, roles.operator] {
                let create = format!(
                    "do $$ begin create role {role} login password '{PASSWORD}'; exception when duplicate_object then null; end $$"
                );
                sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut *connection).await?;
            }
            let making = format!("{template}_making");
            for sql in [format!("drop database if exists {making}"), format!("create database {making}")] {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await?;
            }
            let pool = connect(&format!("{server}/{making}"), 2).await?;
            A::migrate(&pool, &roles).await.context("migrate the template")?;
            pool.close().await;
            let rename = format!("alter database {making} rename to {template}");
            sqlx::raw_sql(AssertSqlSafe(rename)).execute(&mut *connection).await?;
        }
        let name = format!("test_{}", Uuid::now_v7().simple());
        let create = format!("create database {name} template {template}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut *connection).await?;
        sqlx::query("select pg_advisory_unlock($1)").bind(TEMPLATE_LOCK).execute(&mut *connection).await?;
        drop(connection);
        superuser.close().await;
        Ok(Self { name, server, app_role })
    }

    /// A pool of the service's own role.
    ///
    /// # Errors
    /// When the server is gone.
    pub async fn app(&self) -> anyhow::Result<PgPool> {
        connect(&self.url(&self.app_role), 8).await
    }

    /// A pool of the superuser, for arranging what the service may not.
    ///
    /// # Errors
    /// When the server is gone.
    pub async fn superuser(&self) -> anyhow::Result<PgPool> {
        connect(&format!("{}/{}", self.server, self.name), 4).await
    }

    /// The URL for a role.
    pub fn url(&self, role: &str) -> String {
        let host = self.server.rsplit('@').next().unwrap_or_default();
        format!("postgres://{role}:{PASSWORD}@{host}/{}", self.name)
    }

    /// The URL for the service's own role.
    pub fn app_url(&self) -> String {
        self.url(&self.app_role)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // Drop cannot wait for a future on the test's own runtime.
        let dropped = std::thread::spawn(move || -> anyhow::Result<()> {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                let superuser = connect(&format!("{server}/postgres"), 1).await?;
                let drop = format!("drop database if exists {name} with (force)");
                sqlx::raw_sql(AssertSqlSafe(drop)).execute(&superuser).await?;
                Ok(())
            })
        });
        let _ = dropped.join();
    }
}

async fn connect(url: &str, connections: u32) -> anyhow::Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(connections).connect(url).await?)
}

/// Changes with every build of the test binary, and so with its migrations.
fn build_id() -> anyhow::Result<String> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let program = std::env::current_exe()?;
    let mut hasher = DefaultHasher::new();
    program.hash(&mut hasher);
    std::fs::metadata(&program)?.modified()?.hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

//! A database with an outbox and nothing else.

use outbox::{Roles, migrate};
use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};
use uuid::Uuid;

/// A database of one test; dropped with it.
pub struct Scene {
    /// The owner's pool.
    pub owner: PgPool,
    /// The service's pool: it may insert events.
    pub app: PgPool,
    name: String,
    server: String,
}

impl Scene {
    pub async fn set() -> anyhow::Result<Self> {
        let server = testkit::servers().await?.postgres.clone();
        let name = format!("outbox_{}", Uuid::now_v7().simple());
        let superuser = connect(&format!("{server}/postgres")).await?;
        let create = format!("create database {name}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&superuser).await?;
        superuser.close().await;
        let owner = connect(&format!("{server}/{name}")).await?;
        // Roles belong to the whole server, so this test's own must have names of their own.
        let [app, relay, audit] = ["app", "relay", "audit"].map(|role| format!("{name}_{role}"));
        for role in [&app, &relay, &audit] {
            let create = format!("create role {role} login password 'outbox'");
            sqlx::raw_sql(AssertSqlSafe(create)).execute(&owner).await?;
        }
        migrate(&owner, &Roles { app: &app, relay: &relay, audit: &audit, operator: &audit }).await?;
        let host = server.rsplit('@').next().unwrap_or_default();
        let app = connect(&format!("postgres://{app}:outbox@{host}/{name}")).await?;
        Ok(Self { owner, app, name, server })
    }

    /// Topic and payload of every event, in publishing order.
    pub async fn events(&self) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let events = sqlx::query_as("select topic, payload from outbox.event order by id");
        Ok(events.fetch_all(&self.owner).await?)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        let dropped = std::thread::spawn(move || -> anyhow::Result<()> {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                let superuser = connect(&format!("{server}/postgres")).await?;
                let mut drops = vec![format!("drop database if exists {name} with (force)")];
                drops.extend(
                    ["app", "relay", "audit"].map(|role| format!("drop role if exists {name}_{role}")),
                );
                for sql in drops {
                    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&superuser).await?;
                }
                Ok(())
            })
        });
        let _ = dropped.join();
    }
}

async fn connect(url: &str) -> anyhow::Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(8).connect(url).await?)
}

//! A database of its own for each test, migrated, with the roles of production.

use std::env;

use anyhow::Context as _;
use outbox::Roles;
use sqlx::{AssertSqlSafe, PgPool, postgres::PgConnectOptions};
use uuid::Uuid;

/// The database of one test.
pub struct Database {
    /// As a superuser.
    pub owner: PgPool,
    /// As the service.
    pub app: PgPool,
}

impl Database {
    /// Creates and migrates it on the server of `ORDERLY_TEST_POSTGRES` (a superuser's URL).
    pub async fn create() -> anyhow::Result<Self> {
        let url =
            env::var("ORDERLY_TEST_POSTGRES").context("set ORDERLY_TEST_POSTGRES to a superuser's URL")?;
        let server: PgConnectOptions = url.parse()?;
        let name = format!("test_{}", Uuid::now_v7().simple());
        let roles = Roles {
            app: &format!("{name}_app"),
            relay: &format!("{name}_relay"),
            audit: &format!("{name}_audit"),
        };
        let pool = PgPool::connect_with(server.clone()).await?;
        for sql in [
            format!("CREATE DATABASE {name}"),
            format!("CREATE ROLE {} LOGIN PASSWORD '{name}'", roles.app),
            format!("CREATE ROLE {}", roles.relay),
            format!("CREATE ROLE {}", roles.audit),
        ] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await?;
        }
        pool.close().await;
        let owner = PgPool::connect_with(server.clone().database(&name)).await?;
        billing::schema::migrate(&owner, &roles).await?;
        let app = server.database(&name).username(roles.app).password(&name);
        Ok(Self { owner, app: PgPool::connect_with(app).await? })
    }
}

//! Each role of the inventory database may do its work and nothing else.

use sqlx::PgPool;
use testkit::rights::{allowed, refused};
use uuid::Uuid;

use crate::scene::{Ask, Scene, item};

async fn filled() -> anyhow::Result<Scene> {
    let scene = Scene::set().await?;
    scene.add("mug", 10).await?;
    scene.ask(Uuid::now_v7(), Ask::Reserve(vec![item("mug", 1)])).await?;
    Ok(scene)
}

#[tokio::test]
async fn the_service_cannot_rewrite_what_was_counted_nor_delete_anything() -> anyhow::Result<()> {
    let scene = filled().await?;
    refused(
        &scene.pool,
        &[
            "update adjustments set delta = 1",
            "delete from adjustments",
            "truncate adjustments",
            "delete from products",
            "delete from stock",
            "truncate stock",
            "delete from reservations",
            "truncate reservations",
            "select 1 from outbox.event",
            "update outbox.event set topic = 't'",
            "delete from inbox.message",
            "update _sqlx_migrations set success = false",
            "create table mine ()",
            "create table public.mine ()",
        ],
    )
    .await
}

#[tokio::test]
async fn the_relay_reads_the_outbox_and_sees_no_stock() -> anyhow::Result<()> {
    let scene = filled().await?;
    let relay = PgPool::connect(&scene.database.url("orderly_relay")).await?;
    let waiting: i64 = sqlx::query_scalar("select count(*) from outbox.event").fetch_one(&relay).await?;
    assert_eq!(waiting, 2);
    refused(
        &relay,
        &[
            "select 1 from products",
            "select 1 from stock",
            "select 1 from adjustments",
            "select 1 from reservations",
            "update stock set available = 0",
            "insert into outbox.event (topic, headers) values ('t', '')",
        ],
    )
    .await
}

#[tokio::test]
async fn the_auditor_reads_everything_and_changes_nothing() -> anyhow::Result<()> {
    let scene = filled().await?;
    let audit = PgPool::connect(&scene.database.url("orderly_audit")).await?;
    allowed(
        &audit,
        &[
            "select * from products",
            "select * from stock",
            "select * from adjustments",
            "select * from reservations",
            "select * from _sqlx_migrations",
            "select * from outbox.event",
            "select * from inbox.message",
        ],
    )
    .await?;
    refused(
        &audit,
        &[
            "update products set price_minor = 1",
            "update stock set available = available + 1",
            "insert into adjustments (adjustment_id, product_id, delta, reason)
             values (gen_random_uuid(), 'mug', 1, 'r')",
            "delete from reservations",
            "insert into outbox.event (topic, headers) values ('t', '')",
            "create table mine ()",
        ],
    )
    .await
}

//! Each role of the order database may do its work and nothing else.

use sqlx::PgPool;
use testkit::rights::{allowed, refused};

use crate::scene::{Scene, body, create, id};

#[tokio::test]
async fn the_service_adds_to_the_outbox_and_can_do_nothing_else_with_it() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.place().await?;
    allowed(&scene.pool, &["insert into outbox.event (topic, headers) values ('t', '')"]).await?;
    refused(
        &scene.pool,
        &[
            "select 1 from outbox.event",
            "select 1 from outbox.event_0",
            "update outbox.event set topic = 't'",
            "delete from outbox.event",
            "truncate outbox.event",
            "truncate outbox.event_0",
            "insert into outbox.event (topic, headers) values ('t', '') returning id",
            // What decides about order is not the writer's to say.
            "insert into outbox.event (topic, headers, id) values ('t', '', 1)",
            "insert into outbox.event (topic, headers, xid) values ('t', '', '1')",
            "insert into outbox.event (topic, headers, slot) values ('t', '', 1)",
            "insert into outbox.event_0 (slot, topic, headers) values (0, 't', '')",
            "select setval('outbox.event_id_seq', 1)",
            "select 1 from outbox.cursor",
            "update outbox.cursor set snap = pg_current_snapshot()",
            "delete from outbox.cursor",
            "select outbox.rebase()",
        ],
    )
    .await
}

#[tokio::test]
async fn the_service_cannot_rewrite_what_has_happened() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.place().await?;
    refused(
        &scene.pool,
        &[
            "update order_events set event = 'OrderCancelled'",
            "delete from order_events",
            "truncate order_events",
            "delete from orders",
            "truncate orders",
            "delete from products",
            "truncate products",
            "update inbox.message set source = ''",
            "delete from inbox.message",
            "truncate inbox.message_0",
            "delete from inbox.fence",
            "update _sqlx_migrations set success = false",
        ],
    )
    .await
}

#[tokio::test]
async fn nobody_but_the_owner_makes_tables() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    for role in ["orderly_order_app", "orderly_relay", "orderly_audit"] {
        let pool = PgPool::connect(&scene.database.url(role)).await?;
        refused(
            &pool,
            &[
                "create table mine ()",
                "create table public.mine ()",
                "create table outbox.mine ()",
                "create table inbox.mine ()",
                "create schema mine",
                "create table outbox.event_8 partition of outbox.event for values in (8)",
            ],
        )
        .await
        .map_err(|error| error.context(role))?;
    }
    Ok(())
}

#[tokio::test]
async fn the_relay_reads_the_outbox_moves_the_cursor_and_sees_no_order() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.place().await?;
    let relay = PgPool::connect(&scene.database.url("orderly_relay")).await?;
    let waiting: i64 = sqlx::query_scalar("select count(*) from outbox.event").fetch_one(&relay).await?;
    assert_eq!(waiting, 2);
    allowed(
        &relay,
        &[
            "update outbox.cursor set snap = pg_current_snapshot() where name = 'main'",
            "truncate outbox.event_0",
        ],
    )
    .await?;
    refused(
        &relay,
        &[
            "select 1 from orders",
            "select 1 from order_events",
            "select 1 from products",
            "select 1 from inbox.message",
            "update orders set status = 'CONFIRMED'",
            "insert into outbox.event (topic, headers) values ('t', '')",
            "update outbox.event set topic = 't'",
            "delete from outbox.event",
            "insert into outbox.cursor (name, snap) values ('other', pg_current_snapshot())",
            "delete from outbox.cursor",
        ],
    )
    .await
}

#[tokio::test]
async fn the_auditor_reads_everything_and_changes_nothing() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let order_id = id(&create(&scene.api, body()).await?)?;
    let audit = PgPool::connect(&scene.database.url("orderly_audit")).await?;
    let seen: Vec<uuid::Uuid> = sqlx::query_scalar("select order_id from orders").fetch_all(&audit).await?;
    assert_eq!(seen, [order_id]);
    allowed(
        &audit,
        &[
            "select * from order_events",
            "select * from products",
            "select outbox.published_until('{}')",
            "select * from outbox.event",
            "select * from outbox.cursor",
            "select * from inbox.message",
            "select * from inbox.fence",
        ],
    )
    .await?;
    refused(
        &audit,
        &[
            "update orders set status = 'CONFIRMED'",
            "delete from order_events",
            "insert into outbox.event (topic, headers) values ('t', '')",
            "update outbox.cursor set beat = 0",
            "update products set price_minor = 1",
            "delete from inbox.message",
            // What a charge is taken from is nobody's to read.
            "select payment_token from orders",
            "select * from orders",
            "select 1 from orders where payment_token = 'tok_ok'",
        ],
    )
    .await
}

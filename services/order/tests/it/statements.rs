//! Every statement file is one that PostgreSQL takes from the role that sends it.

use std::path::Path;

use order::OrderService;
use sqlx::PgPool;
use testkit::{Database, check_statements};

#[tokio::test]
async fn every_statement_is_prepared_as_its_role() -> anyhow::Result<()> {
    let database = Database::create::<OrderService>().await?;
    let app = database.app().await?;
    let relay = PgPool::connect(&database.url("orderly_relay")).await?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert_ne!(check_statements(&app, &here.join("src/sql")).await?, 0);
    // What belongs to every service's database is checked with this one.
    for (role, folder) in
        [(&app, "crates/outbox/src/sql"), (&app, "crates/consumer/src/sql"), (&relay, "outbox-relay/src/sql")]
    {
        assert_ne!(check_statements(role, &here.join("../..").join(folder)).await?, 0, "{folder}");
    }
    Ok(())
}

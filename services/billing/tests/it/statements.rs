//! Every statement file is one that PostgreSQL takes from the service's own role.

use std::path::Path;

use billing::Billing;
use testkit::{Database, check_statements};

#[tokio::test]
async fn every_statement_is_prepared_as_the_service() -> anyhow::Result<()> {
    let database = Database::create::<Billing>().await?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sql");
    assert_eq!(check_statements(&database.app().await?, &folder).await?, 6);
    Ok(())
}

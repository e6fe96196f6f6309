//! The auditor sees that and how customers were told, never where.

use notification::domain::Kind;
use sqlx::PgPool;

use crate::scene::{CUSTOMER, Scene};

#[tokio::test]
async fn the_audit_role_reads_everything_but_addresses() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    scene.choose_email().await?;
    scene.ask(Kind::OrderConfirmed).await?;
    let audit = PgPool::connect(&scene.database.url("orderly_audit")).await?;
    for sql in ["select customer_id, channel from settings", "select customer_id, channel from notifications"]
    {
        let row: (String, String) = sqlx::query_as(sql).fetch_one(&audit).await?;
        assert_eq!(row, (CUSTOMER.to_owned(), "EMAIL".to_owned()));
    }
    for sql in [
        "select email_address from settings",
        "select * from settings",
        "select count(*) from settings where email_address like 'a%'",
        "select email_address from notifications",
        "select * from notifications",
        "select notifications from notifications",
        "select webhook_url from settings",
        "select webhook_secret from settings",
        "select webhook_url from notifications",
        "select webhook_secret from notifications",
        "select record_payload from notifications",
        "update notifications set status = 'PENDING'",
        "delete from settings",
    ] {
        let error = sqlx::query(sql).fetch_optional(&audit).await.expect_err(sql);
        let code = error.as_database_error().and_then(|error| error.code());
        assert_eq!(code.as_deref(), Some("42501"), "{sql}");
    }
    Ok(())
}

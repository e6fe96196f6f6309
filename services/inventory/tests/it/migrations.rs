//! A migration that was cut off is taken up again.

use inventory::Inventory;
use outbox::Roles;
use service::App as _;

use crate::scene::Scene;

const ROLES: Roles<'static> = Roles {
    app: "orderly_inventory_app",
    relay: "orderly_relay",
    audit: "orderly_audit",
    operator: "orderly_operator",
};

#[tokio::test]
async fn an_index_that_was_not_finished_is_made_again() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    sqlx::raw_sql(
        "update pg_index set indisvalid = false where indexrelid = 'reservations_open_idx'::regclass;
         delete from _sqlx_migrations where version = 2",
    )
    .execute(&scene.superuser)
    .await?;
    Inventory::migrate(&scene.superuser, &ROLES).await?;
    let is_valid = "select indisvalid from pg_index where indexrelid = 'reservations_open_idx'::regclass";
    assert!(sqlx::query_scalar::<_, bool>(is_valid).fetch_one(&scene.superuser).await?);
    Inventory::migrate(&scene.superuser, &ROLES).await?;
    assert!(Inventory::pending(&scene.pool).await?.is_empty());
    Ok(())
}

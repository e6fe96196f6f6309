//! The README's example, word for word, run.

use outbox::{Source, UnitOfWork};
use uuid::Uuid;

use crate::scene::Scene;

#[derive(Clone, PartialEq, prost::Message)]
struct CartClosed {
    #[prost(string, tag = "1")]
    cart_id: String,
}

impl prost::Name for CartClosed {
    const NAME: &'static str = "CartClosed";
    const PACKAGE: &'static str = "shop.v1";
}

async fn example(pool: sqlx::PgPool, cart_id: Uuid) -> Result<(), Box<dyn std::error::Error>> {
    // README
    const SOURCE: Source = Source::new("/shop/cart");

    let mut work = UnitOfWork::begin(&pool).await?;
    let version: i32 =
        sqlx::query_scalar("update carts set version = version + 1 where id = $1 returning version")
            .bind(cart_id)
            .fetch_one(&mut *work)
            .await?;
    let event = SOURCE.event("cart-events", cart_id, version, &CartClosed { cart_id: cart_id.to_string() });
    work.commit(vec![event]).await?;
    // README
    Ok(())
}

#[tokio::test]
async fn the_example_appends_one_event() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let cart_id = Uuid::now_v7();
    let arrange = "create table carts (id uuid primary key, version int not null); \
                   grant select, update on carts to public";
    sqlx::raw_sql(arrange).execute(&scene.owner).await?;
    sqlx::query("insert into carts values ($1, 0)").bind(cart_id).execute(&scene.owner).await?;
    example(scene.app.clone(), cart_id).await.map_err(|error| anyhow::anyhow!("{error}"))?;
    let events = scene.events().await?;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].0, "cart-events");
    Ok(())
}

#[test]
fn the_readme_shows_the_code_that_runs() {
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    };
    let readme = include_str!("../../README.md");
    let shown = readme.split("```rust").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
    let run = include_str!("readme.rs").split("// README").nth(1).unwrap_or_default();
    assert_eq!(lines(shown), lines(run));
}

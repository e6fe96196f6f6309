//! The README's example, word for word, run.

use consumer::{Consumer, EventType, HandleError, Handler, KafkaArgs, Limits, Message, Subscription, Topic};
use outbox::Event;
use sqlx::{PgConnection, PgPool};
use testkit::until;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::scene::{Scene, WITHIN, event_headers};

#[derive(Clone, PartialEq, prost::Message)]
struct CartClosed {
    #[prost(string, tag = "1")]
    cart_id: String,
}

impl prost::Name for CartClosed {
    const NAME: &'static str = "CartClosed";
    const PACKAGE: &'static str = "shop.v1";
}

// README
const SUBSCRIPTION: Subscription = Subscription {
    group: "billing",
    topics: &[Topic::new("cart-events", &[EventType::of::<CartClosed>()])],
    limits: Limits::DEFAULT,
};

struct Carts;

impl Handler for Carts {
    async fn handle(
        &self,
        connection: &mut PgConnection,
        message: &Message,
    ) -> Result<Vec<Event>, HandleError> {
        let closed: CartClosed = message.decode()?;
        let insert = sqlx::query("insert into closed_carts (cart_id) values ($1)");
        insert.bind(closed.cart_id).execute(connection).await?;
        Ok(vec![])
    }
}

async fn work(kafka: KafkaArgs, pool: PgPool, shutdown: CancellationToken) -> Result<(), consumer::Error> {
    Consumer::new(SUBSCRIPTION, kafka, pool, Carts).run(shutdown).await
}
// README

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_consumes() -> anyhow::Result<()> {
    use prost::{Message as _, Name as _};
    use rdkafka::{
        ClientConfig,
        admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
        client::DefaultClientContext,
    };
    let scene = Scene::set().await?;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &scene.kafka.kafka).create()?;
    let topic = format!("{}cart-events", scene.kafka.prefix);
    let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
    admin.create_topics([&new], &AdminOptions::new()).await?;
    sqlx::raw_sql("create table closed_carts (cart_id text); grant insert on closed_carts to public")
        .execute(&scene.owner)
        .await?;
    let shutdown = CancellationToken::new();
    let working = tokio::spawn(work(scene.kafka.clone(), scene.pool("app", 4).await?, shutdown.clone()));
    let payload = CartClosed { cart_id: "cart-1".into() }.encode_to_vec();
    let headers = event_headers(&Uuid::now_v7().to_string(), &CartClosed::full_name());
    scene.send_raw("cart-events", Some("cart-1"), Some(&payload), headers).await?;
    let closed = until("the cart is closed", WITHIN, || async {
        Ok(sqlx::query_scalar::<_, String>("select cart_id from closed_carts")
            .fetch_optional(&scene.owner)
            .await?)
    })
    .await?;
    assert_eq!(closed, "cart-1");
    shutdown.cancel();
    working.await??;
    admin.delete_topics(&[&topic], &AdminOptions::new()).await?;
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

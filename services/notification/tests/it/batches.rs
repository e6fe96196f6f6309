//! A batch leaves behind what its records would, one after the other.

use consumer::{HandleError, Message};
use notification::domain::{Channel, EmailAddress, Webhook};
use prost::{Message as _, Name as _};
use proto::notification::v1::{NotificationKind, NotificationRequested, Settings};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::scene::{SECRET, Scene, record};

const CUSTOMERS: [&str; 4] = ["ann", "bob", "cem", "dee"];

fn request(order_id: Uuid, customer_id: &str, kind: NotificationKind) -> NotificationRequested {
    NotificationRequested {
        order_id: order_id.to_string(),
        customer_id: customer_id.to_owned(),
        kind: kind.into(),
        amount: None,
        reason: String::new(),
    }
}

fn requested(event: &NotificationRequested) -> Message {
    let order_id = event.order_id.parse().unwrap_or_default();
    record(&NotificationRequested::full_name(), order_id, event.encode_to_vec())
}

/// Requests of a few orders; some come twice, and some name another customer than before.
fn records(random: &mut StdRng, orders: &[Uuid], count: usize) -> Vec<Message> {
    let record = |offset| {
        let order = random.random_range(0..orders.len());
        let stranger = usize::from(random.random_range(0..6) == 0);
        let kind = NotificationKind::try_from(random.random_range(1..=6)).expect("a kind");
        let event = request(orders[order], CUSTOMERS[(order + stranger) % CUSTOMERS.len()], kind);
        Message { offset, ..requested(&event) }
    };
    (0..count as i64).map(record).collect()
}

/// One customer has an e-mail address, one a webhook, and two never said.
async fn with_settings() -> anyhow::Result<Scene> {
    let scene = Scene::set(&[]).await?;
    let webhook = Webhook { url: "http://example.com/hook".parse()?, secret: SECRET.parse()? };
    let email = Channel::Email("bob@example.com".parse::<EmailAddress>()?);
    for (customer, channel) in CUSTOMERS.iter().zip([Channel::Webhook(webhook), email]) {
        notification::app::update_settings(&scene.pool, &customer.parse()?, &channel).await?;
    }
    Ok(scene)
}

/// Gives up what can be given up and this condition holds for.
async fn give_some_up(scene: &Scene, condition: &str) -> anyhow::Result<()> {
    let sql = format!(
        "update notifications set status = 'GIVEN_UP', webhook_secret = null, record_topic = null,
             record_partition = null, record_offset = null, record_key = null, record_headers = null,
             record_payload = null, record_ms = null, attempts = 7, first_attempt_at = null
         where channel <> 'LOG' and {condition}"
    );
    sqlx::query(AssertSqlSafe(sql)).execute(&scene.pool).await?;
    Ok(())
}

/// Every row in the order of its position, without its id, its position and its times.
async fn rows(scene: &Scene) -> anyhow::Result<Vec<String>> {
    let sql = "select (to_jsonb(n) - 'notification_id' - 'position' - 'created_at' - 'next_attempt_at')::text
         from notifications n order by position";
    Ok(sqlx::query_scalar(sql).fetch_all(&scene.pool).await?)
}

#[tokio::test]
async fn a_batch_leaves_the_same_rows_as_its_records_one_by_one() -> anyhow::Result<()> {
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let (together, apart) = (with_settings().await?, with_settings().await?);
        let orders: Vec<Uuid> = (0..8).map(|_| Uuid::from_u128(random.random())).collect();
        for _ in 0..4 {
            let count = random.random_range(1..=24);
            let messages = records(&mut random, &orders, count);
            together.handle_all(&messages).await?;
            for message in &messages {
                apart.handle_record(message).await?;
            }
            assert_eq!(rows(&together).await?, rows(&apart).await?, "seed {seed}");
            // Some are given up, so that the next batch begins them again.
            for scene in [&together, &apart] {
                give_some_up(scene, "hashtext(order_id::text || kind) % 2 = 0").await?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn one_wrong_record_takes_its_batch_back() -> anyhow::Result<()> {
    let scene = with_settings().await?;
    let good = request(Uuid::now_v7(), "ann", NotificationKind::OrderConfirmed);
    let wrong = NotificationRequested { customer_id: "a b".to_owned(), ..good.clone() };
    let outcome = scene.handle_all(&[requested(&good), requested(&wrong)]).await;
    let named = |reason: &str| reason.starts_with("notification request: customer_id must");
    assert!(matches!(&outcome, Err(HandleError::Poison { reason }) if named(reason)), "{outcome:?}");
    assert!(rows(&scene).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn events_of_another_type_are_let_pass_by_a_batch() -> anyhow::Result<()> {
    let scene = with_settings().await?;
    let other = record(&Settings::full_name(), Uuid::now_v7(), b"rubbish".to_vec());
    scene.handle_all(std::slice::from_ref(&other)).await?;
    let good = request(Uuid::now_v7(), "cem", NotificationKind::OrderShipped);
    scene.handle_all(&[other, requested(&good)]).await?;
    assert_eq!(scene.told().await?, ["ORDER_SHIPPED LOG PENDING 0"]);
    Ok(())
}

#[tokio::test]
async fn a_batch_tells_of_an_order_in_the_order_of_its_records() -> anyhow::Result<()> {
    let scene = with_settings().await?;
    let orders: Vec<Uuid> = (0..100).map(|_| Uuid::now_v7()).rev().collect();
    let kinds =
        [NotificationKind::OrderConfirmed, NotificationKind::OrderShipped, NotificationKind::OrderCancelled];
    let messages: Vec<Message> = kinds
        .into_iter()
        .flat_map(|kind| orders.iter().map(move |order_id| requested(&request(*order_id, "cem", kind))))
        .collect();
    scene.handle_all(&messages).await?;
    let sql = "select order_id from notifications order by position";
    let told: Vec<Uuid> = sqlx::query_scalar(sql).fetch_all(&scene.pool).await?;
    assert_eq!(told, orders.repeat(3));
    Ok(())
}

#[tokio::test]
async fn a_replay_counts_even_behind_a_request_for_somebody_else() -> anyhow::Result<()> {
    let scene = with_settings().await?;
    let order_id = Uuid::now_v7();
    let [own, strange] = ["bob", "cem"]
        .map(|customer_id| requested(&request(order_id, customer_id, NotificationKind::OrderConfirmed)));
    scene.handle_all(std::slice::from_ref(&own)).await?;
    give_some_up(&scene, "true").await?;
    scene.handle_all(&[strange, own.clone(), own]).await?;
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED EMAIL PENDING 0"]);
    Ok(())
}

//! What no channel takes becomes a dead letter, and a replay begins anew.

use std::time::Duration;

use consumer::{
    Consumer, KafkaArgs,
    dead_letters::{Act, Filter, Letter, find, groups, history, replay},
};
use notification::{
    domain::{Channel, Kind},
    handlers::{Handlers, SUBSCRIPTION},
};
use prost::Message as _;
use sqlx::PgPool;
use testkit::until;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    endpoint::Reply,
    scene::{ADDRESS, Scene},
    smtp::Answer,
};

const WITHIN: Duration = Duration::from_secs(30);
const GONE: Reply = Reply::Status("410 Gone");
const REFUSED: Answer = Answer::Reply("550 no such mailbox");
/// The fewest attempts that are made.
const ATTEMPTS: usize = 5;

impl Scene {
    /// Tries whatever is pending so often, at the end for longer than anything is tried.
    async fn try_for_days(&self) -> anyhow::Result<()> {
        for _ in 1..ATTEMPTS {
            self.dispatch().await?;
            self.all_due().await?;
        }
        self.let_days_pass().await?;
        self.dispatch().await?;
        self.all_due().await
    }

    async fn operator(&self) -> anyhow::Result<PgPool> {
        Ok(PgPool::connect(&self.database.url("orderly_operator")).await?)
    }

    /// The only dead letter.
    async fn letter(&self) -> anyhow::Result<Letter> {
        let operator = self.operator().await?;
        let ids: Vec<Uuid> =
            sqlx::query_scalar("select id from inbox.dead_letter").fetch_all(&operator).await?;
        assert_eq!(ids.len(), 1);
        find(&operator, ids[0]).await?.ok_or_else(|| anyhow::anyhow!("it is gone"))
    }

    /// Has an operator replay every dead letter, and the consumer do it.
    async fn replay(&self) -> anyhow::Result<()> {
        let act = Act { actor: "ann", reason: "they have mended it" };
        assert_eq!(replay(&self.operator().await?, &Filter::default(), None, act).await?.len(), 1);
        let stop = CancellationToken::new();
        // Nobody's port: the letters are in the database.
        let kafka = KafkaArgs { kafka: "127.0.0.1:1".to_owned(), prefix: String::new() };
        let consumer = Consumer::new(SUBSCRIPTION, kafka, self.pool.clone(), Handlers);
        let running = tokio::spawn(consumer.run(stop.clone()));
        until("it is replayed", WITHIN, || async {
            Ok((self.letter().await?.state == "replayed").then_some(()))
        })
        .await?;
        stop.cancel();
        Ok(running.await??)
    }
}

#[tokio::test]
async fn a_webhook_that_is_refused_for_a_day_becomes_a_dead_letter() -> anyhow::Result<()> {
    let scene = Scene::set_webhook(&[GONE; ATTEMPTS]).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    scene.try_for_days().await?;
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED WEBHOOK GIVEN_UP 5"]);
    assert_eq!(scene.dispatch().await?, 0, "nobody tries it any more");

    let letter = scene.letter().await?;
    assert_eq!((letter.consumer.as_str(), letter.state.as_str()), ("notification", "parked"));
    assert_eq!(letter.place, ("notification-events".to_owned(), 3, 42));
    assert_eq!(letter.key.as_deref(), Some(scene.order_id.to_string().as_bytes()));
    assert_eq!(letter.payload, Some(scene.request(Kind::OrderConfirmed).encode_to_vec()));
    assert_eq!(letter.headers.iter().count(), 3);
    assert_eq!(letter.event_type.as_deref(), Some("orderly.notification.v1.NotificationRequested"));
    assert_eq!(letter.kind.as_deref(), Some("undelivered"));
    assert_eq!(letter.error.as_deref(), Some("webhook answered 410 Gone"));
    assert_eq!((letter.attempts, letter.version.as_deref()), (5, Some("1.2.3")));
    assert!(letter.first_failed_at < letter.last_failed_at);
    let copies = "select topic from outbox.event where event_id = $1";
    let superuser = scene.database.superuser().await?;
    let copies: Vec<String> = sqlx::query_scalar(copies).bind(letter.id).fetch_all(&superuser).await?;
    assert_eq!(copies, ["notification-events.notification.dlq"]);
    let holds = "select count(*) from inbox.key_hold";
    assert_eq!(
        sqlx::query_scalar::<_, i64>(holds).fetch_one(&superuser).await?,
        0,
        "nothing waits behind it"
    );
    let groups = groups(&scene.operator().await?, &Filter::default()).await?;
    assert_eq!(groups.iter().map(|group| group.parked).collect::<Vec<_>>(), [1]);
    Ok(())
}

#[tokio::test]
async fn an_email_that_is_refused_for_a_day_becomes_a_dead_letter() -> anyhow::Result<()> {
    let scene = Scene::set(&[REFUSED; ATTEMPTS]).await?;
    scene.choose_email().await?;
    scene.ask(Kind::PaymentReceipt).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    scene.try_for_days().await?;
    assert_eq!(scene.dispatch().await?, 1, "the order's next one goes on");
    assert_eq!(
        scene.told().await?,
        ["PAYMENT_RECEIPT EMAIL GIVEN_UP 5", "ORDER_CONFIRMED EMAIL DELIVERED 1"]
    );
    let error = scene.letter().await?.error.unwrap_or_default();
    assert_eq!(error, "mail server answered 550");
    assert!(!error.contains(ADDRESS));
    Ok(())
}

#[tokio::test]
async fn many_attempts_in_a_short_time_are_not_enough() -> anyhow::Result<()> {
    let scene = Scene::set_webhook(&[GONE; 2 * ATTEMPTS]).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    for _ in 0..2 * ATTEMPTS {
        scene.dispatch().await?;
        scene.all_due().await?;
    }
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED WEBHOOK PENDING 10"]);
    Ok(())
}

/// Between them the service may have been down.
#[tokio::test]
async fn few_attempts_over_a_long_time_are_not_enough() -> anyhow::Result<()> {
    let scene = Scene::set_webhook(&[GONE; ATTEMPTS]).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    for _ in 1..ATTEMPTS {
        scene.dispatch().await?;
        scene.let_days_pass().await?;
        scene.all_due().await?;
    }
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED WEBHOOK PENDING 4"]);
    scene.dispatch().await?;
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED WEBHOOK GIVEN_UP 5"]);
    Ok(())
}

#[tokio::test]
async fn a_replay_begins_anew_where_the_customer_wants_to_be_told_by_now() -> anyhow::Result<()> {
    let scene = Scene::set_webhook(&[GONE; ATTEMPTS]).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    scene.try_for_days().await?;
    let id = "select notification_id from notifications";
    let before: Uuid = sqlx::query_scalar(id).fetch_one(&scene.pool).await?;
    scene.choose_webhook(&format!("http://{}/mended", scene.endpoint.1)).await?;
    scene.replay().await?;
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED WEBHOOK PENDING 0"]);
    assert_eq!(scene.dispatch().await?, 1);
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED WEBHOOK DELIVERED 1"]);
    let calls = scene.endpoint.0.calls();
    assert_eq!(calls[ATTEMPTS].request, "POST /mended HTTP/1.1\r\n");
    assert_eq!(calls[ATTEMPTS].header("webhook-id"), before.to_string());
    assert_eq!(calls[ATTEMPTS].body, calls[0].body);
    Ok(())
}

#[tokio::test]
async fn what_is_given_up_again_is_the_same_dead_letter() -> anyhow::Result<()> {
    let scene = Scene::set_webhook(&[GONE; 2 * ATTEMPTS]).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    scene.try_for_days().await?;
    let first = scene.letter().await?;
    scene.replay().await?;
    scene.try_for_days().await?;
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED WEBHOOK GIVEN_UP 5"]);
    let again = scene.letter().await?;
    assert_eq!((again.id, again.state.as_str()), (first.id, "parked"));
    // The replay was one, too.
    assert_eq!((again.attempts, again.replays), (2 * ATTEMPTS as i32 + 1, 1));
    let history = history(&scene.operator().await?, again.id).await?;
    let actions: Vec<&str> = history.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["parked", "replay", "replayed", "parked"]);

    scene.choose(&Channel::Log).await?;
    scene.replay().await?;
    assert_eq!(scene.dispatch().await?, 1);
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED LOG DELIVERED 1"]);
    Ok(())
}

/// It had its turn among the records of its key: a later one may have taken effect since.
#[tokio::test]
async fn a_replay_leaves_the_record_its_place_in_the_inbox() -> anyhow::Result<()> {
    let scene = Scene::set_webhook(&[GONE; ATTEMPTS]).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    scene.try_for_days().await?;
    let id: Uuid = scene.letter().await?.event_id.unwrap_or_default().parse()?;
    let slot = (id.as_u128() >> 80) / 86_400_000 % 32;
    sqlx::query(
        "insert into inbox.message (slot, consumer, source, id, topic, partition, \"offset\")
         values ($1, 'notification', '/orderly/order', $2, 'notification-events', 3, 42)",
    )
    .bind(slot as i16)
    .bind(id.to_string())
    .execute(&scene.pool)
    .await?;
    let place = "select seq from inbox.message";
    let before: i64 = sqlx::query_scalar(place).fetch_one(&scene.pool).await?;
    scene.replay().await?;
    assert_eq!(sqlx::query_scalar::<_, i64>(place).fetch_one(&scene.pool).await?, before);
    Ok(())
}

#[tokio::test]
async fn what_was_requested_before_records_were_kept_is_tried_for_ever() -> anyhow::Result<()> {
    let scene = Scene::set(&[REFUSED; ATTEMPTS]).await?;
    scene.choose_email().await?;
    scene.ask(Kind::OrderConfirmed).await?;
    sqlx::query("update notifications set record_headers = null").execute(&scene.pool).await?;
    scene.try_for_days().await?;
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED EMAIL PENDING 5"]);
    assert_eq!(scene.dispatch().await?, 1);
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED EMAIL DELIVERED 6"]);
    Ok(())
}

//! What a payment goes through, on a real PostgreSQL, from the records of `payment-requests` to the outbox.

use std::time::Duration;

use billing::{
    Billing,
    app::Payments,
    domain::{Payment, Status},
    handlers::PaymentRequests,
    provider::Provider,
    store,
};
use consumer::{Handler as _, Message, dispatch::Dispatch as _};
use outbox::{Headers, UnitOfWork};
use proto::{
    billing::v1::{PaymentRequested, RefundRequested},
    money::v1::Money,
};
use sqlx::PgPool;
use testkit::Database;
use uuid::Uuid;

use crate::provider::Script;

const CHARGED: (u16, &str) = (201, r#"{"reference":"ch_1","status":"succeeded"}"#);
const REFUNDED: (u16, &str) = (200, r#"{"reference":"re_1","refunded":{"currency":"EUR","minor":4999}}"#);
const DECLINED: (u16, &str) = (402, r#"{"code":"card_declined"}"#);
const UNAVAILABLE: (u16, &str) = (503, r#"{"code":"unavailable"}"#);

struct Scene {
    pool: PgPool,
    owner: PgPool,
    payments: Payments,
    script: Script,
    payment_id: Uuid,
    order_id: Uuid,
    _database: Database,
}

impl Scene {
    async fn set(answers: &[(u16, &'static str)]) -> anyhow::Result<Self> {
        let database = Database::create::<Billing>().await?;
        let (script, address) = Script::listen(answers).await?;
        let url = format!("http://{address}").parse().map_err(anyhow::Error::msg)?;
        let provider = Provider::new(&url, Duration::from_secs(5))?;
        let pool = database.app().await?;
        Ok(Self {
            payments: Payments::new(pool.clone(), provider),
            pool,
            owner: database.superuser().await?,
            script,
            payment_id: Uuid::now_v7(),
            order_id: Uuid::now_v7(),
            _database: database,
        })
    }

    fn pool(&self) -> &PgPool {
        &self.pool
    }

    fn request(&self) -> PaymentRequested {
        PaymentRequested {
            payment_id: self.payment_id.to_string(),
            order_id: self.order_id.to_string(),
            customer_id: "cust-1".to_owned(),
            amount: Some(Money { currency: "EUR".to_owned(), minor: 4999 }),
            payment_token: "tok_ok".to_owned(),
            not_after: None,
        }
    }

    async fn ask_for_payment(&self) -> anyhow::Result<()> {
        self.handle(&self.request()).await
    }

    async fn ask_for_refund(&self) -> anyhow::Result<()> {
        let refund = RefundRequested {
            payment_id: self.payment_id.to_string(),
            order_id: self.order_id.to_string(),
            customer_id: "cust-1".to_owned(),
        };
        self.handle(&refund).await
    }

    /// As the consumer does: effects and events in one transaction.
    async fn handle<M: prost::Message + prost::Name>(&self, event: &M) -> anyhow::Result<()> {
        let message = Message {
            topic: "payment-requests".to_owned(),
            partition: 0,
            offset: 0,
            key: Some(self.order_id.to_string().into_bytes()),
            headers: Headers::default(),
            payload: Some(event.encode_to_vec()),
            timestamp: None,
            source: "/orderly/order".to_owned(),
            id: Uuid::now_v7(),
            event_type: M::full_name(),
        };
        let mut work = UnitOfWork::begin(self.pool()).await?;
        let events = PaymentRequests.handle(&mut work, &message).await?;
        Ok(work.commit(events).await?)
    }

    /// Claims what is due, however long its backoff still is, and performs it. Returns how much that was.
    async fn dispatch(&self) -> anyhow::Result<usize> {
        sqlx::query("UPDATE payments SET next_attempt_at = now()").execute(self.pool()).await?;
        let intents = self.payments.claim(10).await?;
        let count = intents.len();
        for intent in intents {
            self.payments.perform(intent).await?;
        }
        Ok(count)
    }

    async fn payment(&self) -> anyhow::Result<Payment> {
        Ok(self.payments.payment(self.payment_id).await?)
    }

    /// Every event so far: its version and type.
    async fn events(&self) -> anyhow::Result<Vec<String>> {
        let rows: Vec<(i64, String, Vec<u8>)> =
            sqlx::query_as("SELECT sequence, topic, headers FROM outbox.event ORDER BY id")
                .fetch_all(&self.owner)
                .await?;
        rows.into_iter()
            .map(|(sequence, topic, headers)| {
                let headers = Headers::decode(&headers)?;
                let name =
                    headers.text("ce_type").and_then(|name| name.rsplit('.').next()).unwrap_or_default();
                Ok(format!("{topic} {sequence} {name}"))
            })
            .collect()
    }

    /// How many postings there are, and their sum.
    async fn ledger(&self) -> anyhow::Result<(i64, i64)> {
        let sql = "SELECT count(*), coalesce(sum(minor), 0)::bigint FROM ledger_postings";
        Ok(sqlx::query_as(sql).fetch_one(&self.owner).await?)
    }

    async fn token(&self) -> anyhow::Result<Option<String>> {
        Ok(sqlx::query_scalar("SELECT payment_token FROM payments").fetch_one(self.pool()).await?)
    }
}

#[tokio::test]
async fn a_request_delivered_twice_is_charged_and_announced_once() -> anyhow::Result<()> {
    let scene = Scene::set(&[CHARGED]).await?;
    scene.ask_for_payment().await?;
    scene.ask_for_payment().await?;
    assert_eq!(scene.token().await?.as_deref(), Some("tok_ok"));
    assert_eq!((scene.dispatch().await?, scene.dispatch().await?), (1, 0));
    let payment = scene.payment().await?;
    assert_eq!((payment.status, payment.version), (Status::Succeeded, 2));
    assert_eq!(payment.provider_reference.as_deref(), Some("ch_1"));
    assert_eq!(
        scene.events().await?,
        ["payment-results 2 PaymentSucceeded", "notification-events 2 NotificationRequested"]
    );
    assert_eq!(scene.ledger().await?, (2, 0));
    assert_eq!(scene.token().await?, None, "a decided payment keeps no token");
    Ok(())
}

#[tokio::test]
async fn an_unknown_outcome_is_asked_again_with_the_same_key() -> anyhow::Result<()> {
    let of_a_proxy =
        [(400, "<html>"), (400, r#"{"code":"rate_limited"}"#), (402, r#"{"code":"quota_exceeded"}"#)];
    let scene = Scene::set(&[&[UNAVAILABLE], of_a_proxy.as_slice(), &[CHARGED]].concat()).await?;
    scene.ask_for_payment().await?;
    for _ in 0..4 {
        scene.dispatch().await?;
        assert_eq!(scene.payment().await?.status, Status::Pending);
    }
    assert!(scene.events().await?.is_empty());
    scene.dispatch().await?;
    assert_eq!(scene.payment().await?.status, Status::Succeeded);
    let call = ("/v1/charges".to_owned(), scene.payment_id.to_string());
    assert_eq!(scene.script.calls(), vec![call; 5]);
    Ok(())
}

#[tokio::test]
async fn a_claim_is_exclusive_until_its_lease_ends() -> anyhow::Result<()> {
    let scene = Scene::set(&[CHARGED, CHARGED]).await?;
    scene.ask_for_payment().await?;
    let mut first = scene.payments.claim(10).await?;
    assert!(scene.payments.claim(10).await?.is_empty());
    sqlx::query("UPDATE payments SET claimed_until = now()").execute(scene.pool()).await?;
    let mut second = scene.payments.claim(10).await?;
    assert_eq!((first.len(), second.len()), (1, 1));
    for intent in first.drain(..).chain(second.drain(..)) {
        scene.payments.perform(intent).await?;
    }
    assert_eq!(scene.events().await?.len(), 2, "both were answered, one took effect");
    assert_eq!(scene.ledger().await?, (2, 0));
    Ok(())
}

#[tokio::test]
async fn a_late_worker_does_not_release_another_ones_claim() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    scene.ask_for_payment().await?;
    let late = scene.payments.claim(10).await?.remove(0);
    sqlx::query("UPDATE payments SET claimed_until = now()").execute(scene.pool()).await?;
    let _current = scene.payments.claim(10).await?.remove(0);
    store::defer(scene.pool(), &late, 0).await?;
    assert!(scene.payments.claim(10).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_refused_charge_fails_and_a_refund_of_it_returns_nothing() -> anyhow::Result<()> {
    let scene = Scene::set(&[DECLINED]).await?;
    scene.ask_for_payment().await?;
    scene.dispatch().await?;
    assert_eq!(scene.payment().await?.status, Status::Failed);
    scene.ask_for_refund().await?;
    scene.ask_for_refund().await?;
    assert_eq!(scene.payment().await?.status, Status::Refunded);
    assert_eq!(
        scene.events().await?,
        [
            "payment-results 2 PaymentFailed",
            "payment-results 3 PaymentRefunded",
            // Who asks again is told again.
            "payment-results 4 PaymentRefunded"
        ]
    );
    assert_eq!(scene.ledger().await?, (0, 0));
    Ok(())
}

#[tokio::test]
async fn a_refund_gives_the_amount_back_once() -> anyhow::Result<()> {
    let scene = Scene::set(&[CHARGED, UNAVAILABLE, REFUNDED]).await?;
    scene.ask_for_payment().await?;
    scene.dispatch().await?;
    scene.ask_for_refund().await?;
    scene.ask_for_refund().await?;
    assert_eq!(scene.payment().await?.status, Status::Refunding);
    assert_eq!((scene.dispatch().await?, scene.dispatch().await?, scene.dispatch().await?), (1, 1, 0));
    let payment = scene.payment().await?;
    assert_eq!((payment.status, payment.version, payment.refunded_minor), (Status::Refunded, 4, 4999));
    assert_eq!(scene.events().await?.last().map(String::as_str), Some("payment-results 4 PaymentRefunded"));
    assert_eq!(scene.ledger().await?, (4, 0));
    Ok(())
}

#[tokio::test]
async fn a_refund_while_the_charge_is_in_doubt_waits_for_its_outcome() -> anyhow::Result<()> {
    let scene = Scene::set(&[CHARGED, REFUNDED]).await?;
    scene.ask_for_payment().await?;
    let intent = scene.payments.claim(10).await?.remove(0);
    scene.ask_for_refund().await?;
    assert!(scene.payments.claim(10).await?.is_empty(), "the call that is on its way keeps its claim");
    scene.payments.perform(intent).await?;
    assert_eq!(scene.payment().await?.status, Status::Refunding);
    scene.dispatch().await?;
    assert_eq!(
        scene.events().await?,
        [
            "payment-results 2 PaymentSucceeded",
            "notification-events 2 NotificationRequested",
            "payment-results 4 PaymentRefunded",
        ]
    );
    assert_eq!(scene.ledger().await?, (4, 0));
    Ok(())
}

#[tokio::test]
async fn a_refund_before_the_first_call_charges_nothing() -> anyhow::Result<()> {
    let scene = Scene::set(&[CHARGED]).await?;
    scene.ask_for_payment().await?;
    scene.ask_for_refund().await?;
    assert_eq!(scene.dispatch().await?, 0);
    assert_eq!(scene.events().await?, ["payment-results 2 PaymentRefunded"]);
    assert!(scene.script.calls().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_refund_that_finds_nothing_leaves_a_tombstone() -> anyhow::Result<()> {
    let scene = Scene::set(&[CHARGED]).await?;
    scene.ask_for_refund().await?;
    scene.ask_for_refund().await?;
    scene.ask_for_payment().await?;
    assert_eq!(scene.dispatch().await?, 0);
    assert_eq!(scene.payment().await?.status, Status::Refunded);
    assert_eq!(
        scene.events().await?,
        ["payment-results 1 PaymentRefunded", "payment-results 2 PaymentRefunded"]
    );
    Ok(())
}

#[tokio::test]
async fn an_expired_request_is_answered_and_never_charged() -> anyhow::Result<()> {
    let scene = Scene::set(&[CHARGED]).await?;
    let past = prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 };
    scene.handle(&PaymentRequested { not_after: Some(past), ..scene.request() }).await?;
    assert_eq!(scene.dispatch().await?, 0);
    assert_eq!(scene.payment().await?.failure, Some(billing::domain::Failure::Expired));
    assert_eq!(scene.events().await?, ["payment-results 1 PaymentFailed"]);
    assert_eq!(scene.token().await?, None);
    Ok(())
}

#[tokio::test]
async fn a_request_that_contradicts_an_earlier_one_is_poison() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    scene.ask_for_payment().await?;
    let other_amount = Money { currency: "EUR".to_owned(), minor: 1 };
    for contradiction in [
        PaymentRequested { amount: Some(other_amount), ..scene.request() },
        PaymentRequested { order_id: Uuid::now_v7().to_string(), ..scene.request() },
        PaymentRequested { payment_id: Uuid::now_v7().to_string(), ..scene.request() },
        PaymentRequested { customer_id: "cust-2".to_owned(), ..scene.request() },
    ] {
        let error = scene.handle(&contradiction).await.expect_err("a contradiction");
        let poison = error.downcast_ref::<consumer::HandleError>();
        assert!(matches!(poison, Some(consumer::HandleError::Poison { .. })), "{error:#}");
    }
    assert_eq!(scene.payment().await?.version, 1);
    Ok(())
}

#[tokio::test]
async fn the_service_can_add_to_the_ledger_but_not_change_it() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    for sql in ["UPDATE ledger_postings SET minor = 0", "DELETE FROM ledger_postings", "DELETE FROM payments"]
    {
        let error = sqlx::query(sql).execute(scene.pool()).await.expect_err(sql);
        assert_eq!(
            error.as_database_error().and_then(|error| error.code()).as_deref(),
            Some("42501"),
            "{sql}"
        );
    }
    Ok(())
}

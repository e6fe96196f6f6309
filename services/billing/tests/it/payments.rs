//! What a payment goes through, on a real PostgreSQL, from the records of `payment-requests` to the outbox.

use billing::{domain::Status, store};
use consumer::dispatch::Dispatch as _;
use proto::{billing::v1::PaymentRequested, money::v1::Money};
use uuid::Uuid;

use crate::scene::{CHARGED, DECLINED, REFUNDED, Scene, UNAVAILABLE};

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

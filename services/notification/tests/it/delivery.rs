//! From a pending notification to one that the mail server has taken.

use std::{sync::Arc, time::Duration};

use consumer::dispatch::{self, Dispatch as _};
use notification::{dispatch::Medium as _, domain::Kind, mail::Mailer};
use testkit::until;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    scene::{ADDRESS, Scene},
    smtp::Answer,
};

const BUSY: Answer = Answer::Reply("451 try again later");
const REFUSED: Answer = Answer::Reply("550 no such mailbox");

#[tokio::test]
async fn an_email_goes_to_the_customer_and_names_its_order() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    scene.choose_email().await?;
    scene.ask(Kind::PaymentReceipt).await?;
    assert_eq!(scene.dispatch().await?, 1);
    let mails = scene.smtp.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to, ADDRESS);
    assert_eq!(mails[0].header("Subject"), "Receipt for your order");
    assert_eq!(mails[0].header("X-Orderly-Order-Id"), scene.order_id.to_string());
    assert_eq!(mails[0].header("X-Orderly-Kind"), "PAYMENT_RECEIPT");
    assert!(mails[0].content.contains("EUR 49.99"), "{}", mails[0].content);
    assert_eq!(scene.told().await?, ["PAYMENT_RECEIPT EMAIL DELIVERED 1"]);
    Ok(())
}

#[tokio::test]
async fn the_message_id_stays_the_same_over_retries() -> anyhow::Result<()> {
    let scene = Scene::set(&[BUSY, Answer::HangUp]).await?;
    scene.choose_email().await?;
    scene.ask(Kind::OrderConfirmed).await?;
    for attempt in 1..=3 {
        assert_eq!(scene.dispatch().await?, 1, "attempt {attempt}");
        scene.all_due().await?;
    }
    assert_eq!(scene.dispatch().await?, 0);
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED EMAIL DELIVERED 3"]);
    let id: String = sqlx::query_scalar("select '<' || notification_id || '@orderly>' from notifications")
        .fetch_one(&scene.pool)
        .await?;
    let mails = scene.smtp.mails();
    let ids: Vec<&str> = mails.iter().map(|mail| mail.header("Message-ID")).collect();
    assert_eq!(ids, [&id, &id, &id]);
    Ok(())
}

/// The mail server has taken it, and we died before we wrote that down.
#[tokio::test]
async fn an_email_that_repeats_after_a_crash_has_the_same_message_id() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    scene.choose_email().await?;
    scene.ask(Kind::OrderConfirmed).await?;
    let crashed = scene.emails.claim(10).await?.remove(0);
    scene.emails.medium.send(&crashed, &ADDRESS.parse()?).await?;
    assert_eq!(scene.dispatch().await?, 0, "the lease still holds");
    scene.end_leases().await?;
    assert_eq!(scene.dispatch().await?, 1);
    let mails = scene.smtp.mails();
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0].header("Message-ID"), mails[1].header("Message-ID"));
    assert_eq!(scene.told().await?, ["ORDER_CONFIRMED EMAIL DELIVERED 2"]);
    Ok(())
}

#[tokio::test]
async fn the_confirmation_waits_while_the_receipt_is_in_flight_or_waits() -> anyhow::Result<()> {
    let scene = Scene::set(&[REFUSED]).await?;
    scene.choose_email().await?;
    scene.ask(Kind::PaymentReceipt).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    let receipt = scene.emails.claim(10).await?;
    assert_eq!(receipt.iter().map(|claimed| claimed.kind.as_str()).collect::<Vec<_>>(), ["PAYMENT_RECEIPT"]);
    assert_eq!(scene.dispatch().await?, 0, "it is in flight");
    for claimed in receipt {
        scene.emails.perform(claimed).await?;
    }
    assert_eq!(scene.dispatch().await?, 0, "a refusal for good waits long, and the confirmation with it");
    assert_eq!(scene.told().await?, ["PAYMENT_RECEIPT EMAIL PENDING 1", "ORDER_CONFIRMED EMAIL PENDING 0"]);
    Ok(())
}

#[tokio::test]
async fn one_order_that_waits_does_not_hold_up_another() -> anyhow::Result<()> {
    let mut scene = Scene::set(&[REFUSED]).await?;
    scene.choose_email().await?;
    scene.ask(Kind::PaymentReceipt).await?;
    scene.dispatch().await?;
    scene.order_id = uuid::Uuid::now_v7();
    scene.ask(Kind::OrderConfirmed).await?;
    assert_eq!(scene.dispatch().await?, 1);
    assert_eq!(scene.told().await?, ["PAYMENT_RECEIPT EMAIL PENDING 1", "ORDER_CONFIRMED EMAIL DELIVERED 1"]);
    Ok(())
}

#[tokio::test]
async fn the_dispatcher_sends_the_receipt_first_also_when_it_has_to_try_again() -> anyhow::Result<()> {
    let scene = Scene::set(&[BUSY, BUSY]).await?;
    scene.choose_email().await?;
    scene.ask(Kind::PaymentReceipt).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    let stop = CancellationToken::new();
    let wake = Arc::new(Notify::new());
    let metrics = dispatch::Metrics::register(&telemetry::Metrics::new());
    let emails = Arc::clone(&scene.emails);
    let dispatcher = tokio::spawn(dispatch::run(emails, Mailer::CONCURRENCY, wake, &metrics, stop.clone()));
    let delivered = "select count(*) from notifications where status = 'DELIVERED'";
    until("both are delivered", Duration::from_secs(20), || async {
        let delivered: i64 = sqlx::query_scalar(delivered).fetch_one(&scene.pool).await?;
        Ok((delivered == 2).then_some(()))
    })
    .await?;
    stop.cancel();
    dispatcher.await?;
    let mails = scene.smtp.mails();
    let kinds: Vec<&str> = mails.iter().map(|mail| mail.header("X-Orderly-Kind")).collect();
    assert_eq!(kinds, ["PAYMENT_RECEIPT", "PAYMENT_RECEIPT", "PAYMENT_RECEIPT", "ORDER_CONFIRMED"]);
    Ok(())
}

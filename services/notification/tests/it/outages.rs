//! One channel's outage is no other's, and the log gives nothing away about it.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _},
    time::Duration,
};

use notification::domain::{Channel, Kind};
use testkit::until;
use uuid::Uuid;

use crate::{
    endpoint::Reply,
    scene::{ADDRESS, SECRET, Scene},
    worker::Worker,
};

const WITHIN: Duration = Duration::from_secs(30);
/// Enough to open any breaker, and to fill every place of a dispatcher.
const MANY: usize = 40;

/// No mail server, and an endpoint on this machine.
const DOWN: [(&str, &str); 2] = [("ORDERLY_SMTP", "127.0.0.1:1"), ("ORDERLY_WEBHOOK_ALLOW_PRIVATE", "true")];

impl Scene {
    async fn ask_for_many(&mut self) -> anyhow::Result<()> {
        for _ in 0..MANY {
            self.order_id = Uuid::now_v7();
            self.ask(Kind::OrderConfirmed).await?;
        }
        Ok(())
    }

    /// Notifications of a channel that were tried and are pending, and those that are delivered.
    async fn tried_and_delivered(&self, channel: &str) -> anyhow::Result<(i64, i64)> {
        let sql = "select count(*) filter (where status = 'PENDING' and attempts > 0),
                count(*) filter (where status = 'DELIVERED')
            from notifications where channel = $1";
        Ok(sqlx::query_as(sql).bind(channel).fetch_one(&self.pool).await?)
    }
}

#[tokio::test]
async fn lines_and_webhooks_go_on_while_the_mail_server_is_down() -> anyhow::Result<()> {
    let mut scene = Scene::set_webhook(&[]).await?;
    scene.choose_email().await?;
    scene.ask_for_many().await?;
    let _worker = Worker::start_with(&scene, null()?, null()?, &DOWN)?;
    until("e-mails have been tried", WITHIN, || async {
        Ok((scene.tried_and_delivered("EMAIL").await?.0 >= 5).then_some(()))
    })
    .await?;
    scene.choose(&Channel::Log).await?;
    scene.ask_for_many().await?;
    scene.choose_webhook(&format!("http://{}/", scene.endpoint.1)).await?;
    scene.ask_for_many().await?;
    until("lines and webhooks are delivered", WITHIN, || async {
        let lines = scene.tried_and_delivered("LOG").await?.1;
        let webhooks = scene.tried_and_delivered("WEBHOOK").await?.1;
        Ok((lines == MANY as i64 && webhooks == MANY as i64).then_some(()))
    })
    .await?;
    assert_eq!(scene.tried_and_delivered("EMAIL").await?.1, 0);
    Ok(())
}

#[tokio::test]
async fn one_endpoint_that_is_down_is_no_other_customers() -> anyhow::Result<()> {
    let mut scene = Scene::set_webhook(&[]).await?;
    scene.choose_webhook("http://127.0.0.1:1/").await?;
    scene.ask_for_many().await?;
    let _worker = Worker::start_with(&scene, null()?, null()?, &DOWN)?;
    until("all calls have been tried in vain", WITHIN, || async {
        Ok((scene.tried_and_delivered("WEBHOOK").await?.0 == MANY as i64).then_some(()))
    })
    .await?;
    scene.choose_webhook(&format!("http://{}/", scene.endpoint.1)).await?;
    scene.ask_for_many().await?;
    until("the others are delivered", WITHIN, || async {
        Ok((scene.tried_and_delivered("WEBHOOK").await?.1 == MANY as i64).then_some(()))
    })
    .await
}

#[tokio::test]
async fn the_log_names_neither_addresses_nor_secrets() -> anyhow::Result<()> {
    let mut scene = Scene::set_webhook(&[Reply::HangUp, Reply::Status("410 Gone"), Reply::HangUp]).await?;
    scene.ask_for_many().await?;
    scene.choose_webhook("http://unresolvable.invalid/?token=query-is-secret").await?;
    scene.ask_for_many().await?;
    scene.choose_email().await?;
    scene.ask_for_many().await?;
    let mut log = tempfile::tempfile()?;
    let worker =
        Worker::start_with(&scene, null()?, log.try_clone()?, &[DOWN[0], DOWN[1], ("RUST_LOG", "debug")])?;
    until("all have been tried", WITHIN, || async {
        let (pending, delivered) = scene.tried_and_delivered("WEBHOOK").await?;
        let emails = scene.tried_and_delivered("EMAIL").await?.0;
        Ok((pending + delivered == 2 * MANY as i64 && delivered > 0 && emails >= 5).then_some(()))
    })
    .await?;
    drop(worker);
    let mut text = String::new();
    log.rewind()?;
    log.read_to_string(&mut text)?;
    assert!(text.contains("410 Gone") && text.contains("webhook gave no answer"), "{text}");
    for secret in [ADDRESS, SECRET, SECRET.trim_start_matches("whsec_"), "customer=7", "query-is-secret"] {
        assert!(!text.contains(secret), "{secret} is in the log: {text}");
    }
    Ok(())
}

fn null() -> std::io::Result<File> {
    OpenOptions::new().write(true).open("/dev/null")
}

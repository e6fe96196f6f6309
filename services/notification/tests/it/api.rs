//! The gRPC interface, through the generated client and server without a network between them.

use std::collections::HashSet;

use notification::{api::Api, domain::Kind};
use proto::notification::v1::{
    Channel, GetSettingsRequest, ListNotificationsRequest, NotificationStatus, Settings,
    UpdateSettingsRequest, notification_service_client::NotificationServiceClient,
    notification_service_server::NotificationServiceServer,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::scene::{ADDRESS, CUSTOMER, SECRET, Scene};

const URL: &str = "http://example.com/orders?customer=7";

type Client = NotificationServiceClient<NotificationServiceServer<Api>>;

fn client(scene: &Scene) -> Client {
    NotificationServiceClient::new(NotificationServiceServer::new(scene.api()))
}

fn settings(customer_id: &str, channel: i32, email_address: &str) -> Settings {
    Settings {
        customer_id: customer_id.into(),
        channel,
        email_address: email_address.into(),
        ..Default::default()
    }
}

async fn update(client: &mut Client, settings: Option<Settings>) -> Result<Option<Settings>, Status> {
    Ok(client.update_settings(UpdateSettingsRequest { settings }).await?.into_inner().settings)
}

async fn get(client: &mut Client, customer_id: &str) -> Result<Option<Settings>, Status> {
    let request = GetSettingsRequest { customer_id: customer_id.into() };
    Ok(client.get_settings(request).await?.into_inner().settings)
}

/// The fields that the caller is told are wrong.
fn fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("INVALID_FIELD"));
    let violations = details.bad_request().map(|request| request.field_violations.clone());
    violations.unwrap_or_default().into_iter().map(|violation| violation.field).collect()
}

#[tokio::test]
async fn settings_are_the_log_until_they_are_replaced() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    let mut client = client(&scene);
    let log = settings(CUSTOMER, Channel::Log.into(), "");
    let email = settings(CUSTOMER, Channel::Email.into(), ADDRESS);
    assert_eq!(get(&mut client, CUSTOMER).await?, Some(log.clone()));
    for chosen in [email.clone(), email, log] {
        assert_eq!(update(&mut client, Some(chosen.clone())).await?, Some(chosen.clone()));
        assert_eq!(get(&mut client, CUSTOMER).await?, Some(chosen));
    }
    Ok(())
}

#[tokio::test]
async fn wrong_settings_are_refused_with_every_field_named() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    let mut client = client(&scene);
    let kept = settings(CUSTOMER, Channel::Email.into(), ADDRESS);
    update(&mut client, Some(kept.clone())).await?;
    let (log, email) = (i32::from(Channel::Log), i32::from(Channel::Email));
    let (customer, channel, address) = ("settings.customer_id", "settings.channel", "settings.email_address");
    let long = "x".repeat(65);
    let long_address = format!("{}@example.com", "a".repeat(250));
    for (asked, wrong) in [
        (None, vec![customer, channel]),
        (Some(settings("", log, "")), vec![customer]),
        (Some(settings("a b", log, "")), vec![customer]),
        (Some(settings("a'; drop table settings; --", log, "")), vec![customer]),
        (Some(settings("\0", log, "")), vec![customer]),
        (Some(settings(&long, log, "")), vec![customer]),
        (Some(settings(CUSTOMER, 0, ADDRESS)), vec![channel]),
        (Some(settings(CUSTOMER, 99, "")), vec![channel]),
        (Some(settings(CUSTOMER, -1, "")), vec![channel]),
        (Some(settings(CUSTOMER, log, ADDRESS)), vec![address]),
        (Some(settings(CUSTOMER, email, "")), vec![address]),
        (Some(settings(CUSTOMER, email, "ann")), vec![address]),
        (Some(settings(CUSTOMER, email, "ann@example.com\r\nBcc: eve@example.com")), vec![address]),
        (Some(settings(CUSTOMER, email, "ann@example.com,eve@example.com")), vec![address]),
        (Some(settings(CUSTOMER, email, &long_address)), vec![address]),
        (Some(settings("", email, "@")), vec![customer, address]),
    ] {
        let status = update(&mut client, asked.clone()).await.expect_err("refused");
        assert_eq!(fields(&status), wrong, "{asked:?}");
    }
    for customer_id in ["", "a b", "ü", &long] {
        let status = get(&mut client, customer_id).await.expect_err("refused");
        assert_eq!(fields(&status), ["customer_id"], "{customer_id}");
    }
    assert_eq!(get(&mut client, CUSTOMER).await?, Some(kept), "nothing has changed");
    Ok(())
}

fn webhook(url: &str, secret: &str) -> Settings {
    let chosen = settings(CUSTOMER, Channel::Webhook.into(), "");
    Settings { webhook_url: url.into(), webhook_secret: secret.into(), ..chosen }
}

#[tokio::test]
async fn a_webhooks_secret_is_told_once_and_only_where_it_was_made() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    let mut client = client(&scene);
    let told = webhook(URL, "");
    let mut made = HashSet::new();
    for _ in 0..2 {
        let answer = update(&mut client, Some(webhook(URL, ""))).await?.unwrap_or_default();
        assert!(answer.webhook_secret.starts_with("whsec_") && answer.webhook_secret.len() == 6 + 44);
        assert!(made.insert(answer.webhook_secret.clone()), "each is another one");
        assert_eq!(Settings { webhook_secret: String::new(), ..answer }, told);
        assert_eq!(get(&mut client, CUSTOMER).await?, Some(told.clone()));
    }
    assert_eq!(update(&mut client, Some(webhook(URL, SECRET))).await?, Some(told.clone()));
    assert_eq!(get(&mut client, CUSTOMER).await?, Some(told));
    let kept: String =
        sqlx::query_scalar("select webhook_secret from settings").fetch_one(&scene.pool).await?;
    assert_eq!(kept, SECRET);
    Ok(())
}

#[tokio::test]
async fn wrong_webhooks_are_refused_with_every_field_named() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    let mut client = client(&scene);
    let kept = webhook(URL, "");
    update(&mut client, Some(kept.clone())).await?;
    let (customer, address) = ("settings.customer_id", "settings.email_address");
    let (url, secret) = ("settings.webhook_url", "settings.webhook_secret");
    let (log, email) = (Channel::Log.into(), Channel::Email.into());
    let long = format!("http://example.com/{}", "a".repeat(2048));
    for (asked, wrong) in [
        (webhook("", ""), vec![url]),
        (webhook("example.com", ""), vec![url]),
        (webhook("https://example.com/", ""), vec![url]),
        (webhook("ftp://example.com/", ""), vec![url]),
        (webhook("http://ann@example.com/", ""), vec![url]),
        (webhook("http://:password@example.com/", ""), vec![url]),
        (webhook("http://example.com/#fragment", ""), vec![url]),
        (webhook("http://example.com/\r\nx: y", ""), vec![url]),
        (webhook("http:///", ""), vec![url]),
        (webhook(&long, ""), vec![url]),
        (webhook(URL, "password"), vec![secret]),
        (webhook(URL, "whsec_"), vec![secret]),
        (webhook(URL, "whsec_AAAA"), vec![secret]),
        (webhook(URL, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), vec![secret]),
        (webhook(URL, &format!("whsec_{}", "A".repeat(88))), vec![secret]),
        (webhook("", "whsec_"), vec![url, secret]),
        (Settings { email_address: ADDRESS.into(), ..webhook(URL, "") }, vec![address]),
        (Settings { email_address: ADDRESS.into(), ..webhook("", "x") }, vec![address, url, secret]),
        (Settings { channel: log, ..webhook(URL, SECRET) }, vec![url, secret]),
        (Settings { channel: email, ..webhook(URL, SECRET) }, vec![address, url, secret]),
        (Settings { channel: email, email_address: ADDRESS.into(), ..webhook(URL, "") }, vec![url]),
        (Settings { customer_id: "a b".into(), ..webhook("x", "y") }, vec![customer, url, secret]),
    ] {
        let status = update(&mut client, Some(asked.clone())).await.expect_err("refused");
        assert_eq!(fields(&status), wrong, "{asked:?}");
        assert!(!status.to_string().contains("whsec_A"), "{status}");
    }
    assert_eq!(get(&mut client, CUSTOMER).await?, Some(kept), "nothing has changed");
    Ok(())
}

#[tokio::test]
async fn pages_show_every_notification_once_and_the_newest_first() -> anyhow::Result<()> {
    let mut scene = Scene::set(&[]).await?;
    let mut client = client(&scene);
    for _ in 0..5 {
        scene.order_id = Uuid::now_v7();
        scene.ask(Kind::OrderConfirmed).await?;
    }
    let mut request =
        ListNotificationsRequest { customer_id: CUSTOMER.into(), page_size: 2, ..Default::default() };
    let (mut ids, mut sizes) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let page = client.list_notifications(request.clone()).await?.into_inner();
        sizes.push(page.notifications.len());
        ids.extend(page.notifications.into_iter().map(|notification| notification.notification_id));
        request.page_token = page.next_page_token;
    }
    assert_eq!(sizes, [2, 2, 1]);
    assert_eq!(request.page_token, "", "the last page leads nowhere");
    assert!(ids.is_sorted_by(|newer, older| newer > older), "{ids:?}");
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 5);
    Ok(())
}

#[tokio::test]
async fn a_list_shows_what_its_filter_asks_for() -> anyhow::Result<()> {
    let mut scene = Scene::set(&[]).await?;
    let mut client = client(&scene);
    scene.ask(Kind::OrderConfirmed).await?;
    scene.order_id = Uuid::now_v7();
    scene.ask(Kind::OrderCancelled).await?;
    scene.dispatch().await?;
    let order_id = scene.order_id.to_string();
    for (order_id, customer_id, count) in
        [("", "", 2), (order_id.as_str(), "", 1), ("", CUSTOMER, 2), (&order_id, "cust-2", 0)]
    {
        let request = ListNotificationsRequest {
            order_id: order_id.into(),
            customer_id: customer_id.into(),
            ..Default::default()
        };
        let page = client.list_notifications(request).await?.into_inner();
        assert_eq!(page.notifications.len(), count, "{order_id} {customer_id}");
        assert!(page.next_page_token.is_empty());
        for notification in page.notifications {
            assert_eq!(notification.status(), NotificationStatus::Delivered);
            assert_eq!((notification.channel(), notification.attempts), (Channel::Log, 1));
            assert!(notification.deliver_time.is_some());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_list_is_refused_with_every_field_named() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    let mut client = client(&scene);
    scene.ask(Kind::PaymentReceipt).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    let first = ListNotificationsRequest { page_size: 1, ..Default::default() };
    let token = client.list_notifications(first).await?.into_inner().next_page_token;
    let list = |order_id: &str, customer_id: &str, page_size, page_token: &str| ListNotificationsRequest {
        order_id: order_id.into(),
        customer_id: customer_id.into(),
        page_size,
        page_token: page_token.into(),
    };
    for (request, wrong) in [
        (list("42", "", 0, ""), vec!["order_id"]),
        (list("' or true --", "", 0, ""), vec!["order_id"]),
        (list("", "a b", 0, ""), vec!["customer_id"]),
        (list("", "", -1, ""), vec!["page_size"]),
        (list("", "", i32::MIN, ""), vec!["page_size"]),
        (list("", "", 0, "rubbish"), vec!["page_token"]),
        (list("", "", 0, &format!("{token}0")), vec!["page_token"]),
        (list("", CUSTOMER, 0, &token), vec!["page_token"]),
        (list("x", "\0", -1, "-"), vec!["order_id", "customer_id", "page_size", "page_token"]),
    ] {
        let status = client.list_notifications(request.clone()).await.expect_err("refused");
        assert_eq!(fields(&status), wrong, "{request:?}");
    }
    Ok(())
}

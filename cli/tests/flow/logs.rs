//! What the processes log: JSON on request, in the trace of the order that it is about, and nothing that is secret.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use axum::http::StatusCode;
use proto::{
    notification::v1::Channel,
    order::v1::{CreateOrderRequest, Order, OrderStatus},
};
use serde_json::Value;
use testkit::{Collector, Part, Platform, until};

use crate::{
    client::{SETTLE, mouse, platform, reached, shipped, told},
    trace::{Caller, endpoint::Endpoint, write_to},
};

const ADDRESS: &str = "ada.lovelace.7c1e@customers.example";
const WEBHOOK_PATH: &str = "/hooks/4f1d9b?key=9c27aa";
const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// What no line and no span may have in it. Tokens of cards all begin like the first one; the last but one is the
/// password of every role.
const SECRETS: [&str; 7] = [
    "tok_",
    "ada.lovelace",
    "4f1d9b",
    "9c27aa",
    "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "tests-on-loopback",
    "whsec_",
];
/// As much as there is of ours, and what others say of their connections.
const EVERYTHING: &str = "debug,order=trace,inventory=trace,billing=trace,notification=trace,outbox_relay=trace,\
    consumer=trace,outbox=trace,service=trace,telemetry=trace";
/// Those that log by this platform's rules; the others stand for the outside world.
const PARTS: [Part; 5] = [Part::Order, Part::Inventory, Part::Billing, Part::Notification, Part::Relay];

#[tokio::test]
async fn lines_are_json_in_the_trace_of_their_order_and_hold_no_secret() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let mut platform = platform().await?;
    for text in ["outcome unknown, asking again", "notification not delivered", "other side"] {
        platform.expect_log(text);
    }
    platform
        .configure_all(&[
            ("ORDERLY_LOG_FORMAT", "json"),
            ("RUST_LOG", "info"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint()),
        ])
        .await?;
    let webhook = Endpoint::start(&[StatusCode::INTERNAL_SERVER_ERROR; 2]).await?;
    write_to(&platform, "cust-mail", |settings| {
        settings.set_channel(Channel::Email);
        settings.email_address = ADDRESS.to_owned();
    })
    .await?;
    write_to(&platform, "cust-hook", |settings| {
        settings.set_channel(Channel::Webhook);
        settings.webhook_url = webhook.url(WEBHOOK_PATH);
        settings.webhook_secret = WEBHOOK_SECRET.to_owned();
    })
    .await?;

    let mut told_of = BTreeMap::new();
    let mut place = async |platform: &Platform, customer: &str, token: &str| {
        let (caller, request) = (Caller::sampled(), mouse(token));
        let request = CreateOrderRequest { customer_id: customer.to_owned(), ..request };
        let order = caller.place(platform, request).await?;
        told_of.insert(order.order_id.clone(), caller.trace_id);
        anyhow::Ok(order)
    };
    let plain = place(&platform, "cust-hook", "tok_ok").await?;
    complete(&platform, &plain).await?;
    platform.configure_all(&[("RUST_LOG", EVERYTHING)]).await?;
    let noisy = place(&platform, "cust-hook", "tok_timeout_once").await?;
    complete(&platform, &noisy).await?;
    let unknown = place(&platform, "cust-mail", "tok_of_nobody").await?;
    reached(&platform, &unknown.order_id, OrderStatus::Rejected).await?;
    platform.kill(Part::Mail)?;
    let mailed = place(&platform, "cust-mail", "tok_ok").await?;
    until("the mail server is missed", SETTLE, async || {
        Ok(platform.log(Part::Notification)?.contains("\"channel\":\"EMAIL\"").then_some(()))
    })
    .await?;
    platform.restart(Part::Mail).await?;
    complete(&platform, &mailed).await?;
    anyhow::ensure!(platform.terminate_all().await?.is_empty(), "every part ends well");

    let mut wrong = Vec::new();
    let mut named = BTreeSet::new();
    for part in PARTS {
        // It was started with text, and then anew.
        for line in platform.log(part)?.lines().skip_while(|line| !line.starts_with('{')) {
            let about = read(line, &told_of).with_context(|| format!("{part:?} logged {line}"));
            match about {
                Ok(orders) => named.extend(orders.into_iter().map(|order| (format!("{part:?}"), order))),
                Err(error) => wrong.push(format!("{error:#}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{} lines are wrong, such as\n{}", wrong.len(), first(&wrong));
    for order in [&plain, &noisy, &mailed] {
        for part in ["Inventory", "Billing"] {
            let is_named = named.contains(&(part.to_owned(), order.order_id.clone()));
            assert!(is_named, "{part} has logged nothing about order {}", order.order_id);
        }
    }
    let mut leaks = Vec::new();
    for part in Part::ALL {
        for line in platform.log(part)?.lines() {
            leaks.extend(secrets(line).map(|secret| format!("{part:?}: {secret}: {line}")));
        }
    }
    let spans = collector.spans();
    assert!(!spans.is_empty(), "callers have sampled their traces");
    for span in spans {
        leaks.extend(secrets(&format!("{span:?}")).map(|secret| format!("{secret}: {span:?}")));
    }
    assert!(leaks.is_empty(), "{} secrets are told, such as\n{}", leaks.len(), first(&leaks));
    platform.restart(Part::Relay).await
}

async fn complete(platform: &Platform, order: &Order) -> anyhow::Result<()> {
    shipped(platform, &order.order_id).await?;
    told(platform, &order.order_id, 3).await?;
    Ok(())
}

/// The orders that a line names, which all have to be those of its trace.
fn read(line: &str, traces: &BTreeMap<String, String>) -> anyhow::Result<Vec<String>> {
    let json: Value = serde_json::from_str(line).context("no JSON")?;
    for field in ["timestamp", "level", "target", "message"] {
        let text = json[field].as_str().unwrap_or_default();
        // Of a statement sqlx says everything but a message.
        let is_statement = json["target"] == "sqlx::query" && field == "message";
        anyhow::ensure!(!text.is_empty() || is_statement, "it has no {field}");
    }
    // This test's own questions are calls in traces of their own.
    if json["spans"][0]["rpc.method"].as_str().is_some_and(|method| !method.ends_with("/CreateOrder")) {
        return Ok(Vec::new());
    }
    let named = traces.iter().filter(|(order_id, _)| line.contains(order_id.as_str()));
    let named: Vec<_> = named.collect();
    for (order_id, trace_id) in &named {
        anyhow::ensure!(json["trace_id"] == trace_id.as_str(), "order {order_id} is in trace {trace_id}");
    }
    Ok(named.into_iter().map(|(order_id, _)| order_id.clone()).collect())
}

fn secrets(text: &str) -> impl Iterator<Item = &'static str> {
    SECRETS.into_iter().filter(move |secret| text.contains(secret))
}

fn first(wrong: &[String]) -> String {
    wrong.iter().take(20).map(|line| format!("{line}\n")).collect()
}

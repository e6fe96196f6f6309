//! One trace for each order, from the call to the last effect, as a collector receives it from the real processes.

mod again;
mod batches;
mod caller;
mod conventions;
pub mod endpoint;
mod failures;
mod tree;

use proto::{
    notification::v1::{
        Channel, Settings, UpdateSettingsRequest, notification_service_client::NotificationServiceClient,
    },
    order::v1::{CreateOrderRequest, Order},
};
use testkit::{Collector, Part, Platform, Span, until};

pub use self::caller::Caller;

use self::{
    endpoint::Endpoint,
    tree::{is, tree},
};
use crate::client::{SETTLE, channel, mouse, platform, shipped, told};

/// The spans of an order to which nothing bad happens, each below its parent, without those of SQL statements. `=>` is a
/// link to the parent beside it: a record is linked to its creation, also where it is a child of it.
const ORDER: &str = "\
order: orderly.order.v1.OrderService/CreateOrder
  order: create order-created
    outbox-relay: send order-created =>
    outbox-relay: wait outbox
  order: create stock-requests
    inventory: process stock-requests =>
      inventory: create stock-results
        order: process stock-results =>
          order: create order-status
            outbox-relay: send order-status =>
            outbox-relay: wait outbox
          order: create payment-requests
            billing: process payment-requests =>
              billing: charge payment
                billing: POST
                billing: create notification-events
                  notification: process notification-events =>
                    notification: deliver log
                  notification: wait notification-events
                  outbox-relay: send notification-events =>
                  outbox-relay: wait outbox
                billing: create payment-results
                  order: process payment-results =>
                    order: create notification-events
                      notification: process notification-events =>
                        notification: deliver log
                      notification: wait notification-events
                      outbox-relay: send notification-events =>
                      outbox-relay: wait outbox
                    order: create order-status
                      outbox-relay: send order-status =>
                      outbox-relay: wait outbox
                    order: create order-status
                      outbox-relay: send order-status =>
                      outbox-relay: wait outbox
                    order: create stock-requests
                      inventory: process stock-requests =>
                        inventory: create stock-results
                          order: process stock-results =>
                            order: create notification-events
                              notification: process notification-events =>
                                notification: deliver log
                              notification: wait notification-events
                              outbox-relay: send notification-events =>
                              outbox-relay: wait outbox
                            order: create order-status
                              outbox-relay: send order-status =>
                              outbox-relay: wait outbox
                          order: wait stock-results
                          outbox-relay: send stock-results =>
                          outbox-relay: wait outbox
                      inventory: wait stock-requests
                      outbox-relay: send stock-requests =>
                      outbox-relay: wait outbox
                  order: wait payment-results
                  outbox-relay: send payment-results =>
                  outbox-relay: wait outbox
            billing: wait payment-requests
            outbox-relay: send payment-requests =>
            outbox-relay: wait outbox
        order: wait stock-results
        outbox-relay: send stock-results =>
        outbox-relay: wait outbox
    inventory: wait stock-requests
    outbox-relay: send stock-requests =>
    outbox-relay: wait outbox
";

#[tokio::test]
async fn an_order_is_one_trace_from_the_call_to_the_last_effect() -> anyhow::Result<()> {
    let (mut platform, collector) = traced().await?;
    let webhook = Endpoint::start(&[]).await?;
    write_to(&platform, "cust-mail", |settings| {
        settings.set_channel(Channel::Email);
        settings.email_address = "cust-mail@customers.example".to_owned();
    })
    .await?;
    write_to(&platform, "cust-hook", |settings| {
        settings.set_channel(Channel::Webhook);
        settings.webhook_url = webhook.url("/told?key=secret");
    })
    .await?;

    let callers = [Caller::sampled(), Caller::sampled(), Caller::sampled()];
    for (caller, customer) in callers.iter().zip(["cust-1", "cust-mail", "cust-hook"]) {
        complete(&platform, caller.place(&platform, of(customer)).await?).await?;
    }
    let unsampled = Caller::unsampled();
    let unseen = complete(&platform, unsampled.place(&platform, of("cust-1")).await?).await?;
    let fresh = complete(&platform, caller::place(&platform, of("cust-1"), None).await?).await?;
    let rubbish = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
    let stranger = complete(&platform, caller::place(&platform, of("cust-1"), Some(rubbish)).await?).await?;
    // What has ended has exported its last span.
    anyhow::ensure!(platform.terminate_all().await?.is_empty(), "every part ends well");

    let effects: [&[&str]; 3] =
        [&["deliver log"], &["send mail", "settle delivery"], &["POST", "settle delivery"]];
    for (caller, effects) in callers.iter().zip(effects) {
        let spans = collector.trace(&caller.trace_id);
        is(&tree(&spans), &ends_with(effects));
        let roots: Vec<_> =
            spans.iter().filter(|span| span.parent_span_id.as_ref() == Some(&caller.span_id)).collect();
        assert!(matches!(roots.as_slice(), [root] if root.name.ends_with("CreateOrder")), "{roots:#?}");
        has_statements(&spans);
    }
    let calls = webhook.calls();
    assert_eq!(calls.len(), 3);
    for call in calls {
        let spans = collector.trace(&callers[2].trace_id);
        let parents: Vec<_> = spans
            .iter()
            .filter(|span| span.service == "notification" && span.name == "POST")
            .map(|span| format!("00-{}-{}-01", span.trace_id, span.span_id))
            .collect();
        let traceparent = call.header("traceparent");
        assert!(parents.contains(&traceparent), "{traceparent} is not of {parents:?}");
    }

    let spans = collector.spans();
    let mut traces = Vec::new();
    for order in [&fresh, &stranger] {
        let created = spans.iter().find(|span| concerns(span, order)).expect("a span of the order");
        let spans = collector.trace(&created.trace_id);
        is(&tree(&spans), ORDER);
        assert_eq!(spans.iter().filter(|span| span.parent_span_id.is_none()).count(), 1);
        traces.push(created.trace_id.clone());
    }
    traces.extend(callers.into_iter().map(|caller| caller.trace_id));
    traces.push(unsampled.trace_id.clone());
    traces.push(rubbish[3..35].to_owned());
    let count = traces.len();
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), count, "each order has a trace of its own");
    let seen = spans.iter().find(|span| span.trace_id == unsampled.trace_id || concerns(span, &unseen));
    assert!(seen.is_none(), "the caller does not sample it: {seen:#?}");
    assert_eq!(spans.iter().find(|span| span.trace_id == rubbish[3..35]).map(ToString::to_string), None);

    conventions::are_kept(&spans);
    // With a relay its end is looked at.
    platform.restart(Part::Relay).await
}

/// The spans of an order whose customer is told in this way.
fn ends_with(effects: &[&str]) -> String {
    let lines = ORDER.lines().flat_map(|line| match line.split_once("deliver log") {
        Some((before, _)) => effects.iter().map(|effect| format!("{before}{effect}\n")).collect(),
        None => vec![format!("{line}\n")],
    });
    lines.collect()
}

/// A platform all of whose spans are collected.
async fn traced() -> anyhow::Result<(Platform, Collector)> {
    let collector = Collector::start().await?;
    let mut platform = platform().await?;
    platform.trace(&collector).await?;
    Ok((platform, collector))
}

/// An order of a customer.
fn of(customer: &str) -> CreateOrderRequest {
    CreateOrderRequest { customer_id: customer.to_owned(), ..mouse("tok_ok") }
}

/// Waits until an order is shipped, its customer was told, and everything about it is published.
async fn complete(platform: &Platform, order: Order) -> anyhow::Result<Order> {
    shipped(platform, &order.order_id).await?;
    told(platform, &order.order_id, 3).await?;
    published(platform).await?;
    Ok(order)
}

/// Waits until no outbox has an event left.
async fn published(platform: &Platform) -> anyhow::Result<()> {
    for (part, database) in platform.databases() {
        let pool = database.superuser().await?;
        let left =
            "select count(*) from outbox.event, outbox.cursor where not pg_visible_in_snapshot(xid, snap)";
        until(&format!("{part:?} has published everything"), SETTLE, async || {
            let left: i64 = sqlx::query_scalar(left).fetch_one(&pool).await?;
            Ok((left == 0).then_some(()))
        })
        .await?;
        pool.close().await;
    }
    Ok(())
}

/// Sets a customer's channel.
pub async fn write_to(
    platform: &Platform,
    customer: &str,
    set: impl FnOnce(&mut Settings),
) -> anyhow::Result<()> {
    let mut settings = Settings { customer_id: customer.to_owned(), ..Settings::default() };
    set(&mut settings);
    let mut client = NotificationServiceClient::new(channel(platform, Part::Notification).await?);
    client.update_settings(UpdateSettingsRequest { settings: Some(settings) }).await?;
    Ok(())
}

/// Whether a span is that of a record about an order.
fn concerns(span: &Span, order: &Order) -> bool {
    span.text("messaging.kafka.message.key") == Some(&order.order_id)
}

/// Every service has run SQL in its part of the trace, each statement in a span that is there.
fn has_statements(spans: &[Span]) {
    let is_statement = |span: &&Span| span.attributes.contains_key("db.system.name");
    for service in ["order", "inventory", "billing"] {
        let any = spans.iter().filter(is_statement).any(|span| span.service == service);
        assert!(any, "{service} has run no SQL in {spans:#?}");
    }
    for statement in spans.iter().filter(is_statement) {
        let parent = spans.iter().find(|span| Some(&span.span_id) == statement.parent_span_id.as_ref());
        assert!(
            parent.is_some_and(|parent| parent.service == statement.service),
            "{statement:#?} in {parent:#?}"
        );
    }
}

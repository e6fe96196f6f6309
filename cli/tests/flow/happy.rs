//! Orders to which nothing bad happens, and those that are refused.

use std::{fs, time::Duration};

use anyhow::Context as _;
use outbox::Headers;
use proto::{
    notification::v1::NotificationKind::{OrderConfirmed, OrderRejected, PaymentReceipt},
    order::v1::{OrderStatus, StatusReason},
};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::{Headers as _, Message as _},
};
use testkit::{Part, TOPICS};

use crate::client::{place, platform, reached, told};

#[tokio::test]
async fn an_order_is_paid_confirmed_and_told_once() -> anyhow::Result<()> {
    let platform = platform().await?;
    let order = place(&platform, "tok_ok").await?;
    assert_eq!((order.status(), order.version), (OrderStatus::Pending, 1));
    let answer = reached(&platform, &order.order_id, OrderStatus::Confirmed).await?;
    let history: Vec<_> =
        answer.history.iter().map(|step| (step.version, step.event.as_str(), step.status())).collect();
    assert_eq!(
        history,
        [
            (1, "OrderPlaced", OrderStatus::Pending),
            (2, "PaymentSucceeded", OrderStatus::Paid),
            (3, "OrderConfirmed", OrderStatus::Confirmed),
        ]
    );
    assert_eq!(told(&platform, &order.order_id, 2).await?, [PaymentReceipt, OrderConfirmed]);
    let charges = fs::read_to_string(platform.ledger(Part::Provider))?;
    assert_eq!(charges.lines().filter(|line| line.contains(&order.payment_id)).count(), 1);

    let records = records(platform.kafka(), &platform.prefix, &order.order_id)?;
    let types: Vec<(&str, &str, &str)> = records
        .iter()
        .map(|(topic, headers)| {
            (
                topic.as_str(),
                headers.text("ce_type").unwrap_or("none"),
                headers.text("ce_sequence").unwrap_or("none"),
            )
        })
        .collect();
    assert_eq!(
        types,
        [
            ("order-created", "orderly.order.v1.OrderCreated", "1"),
            ("payment-requests", "orderly.billing.v1.PaymentRequested", "1"),
            ("payment-results", "orderly.billing.v1.PaymentSucceeded", "2"),
            ("order-status", "orderly.order.v1.OrderPaid", "2"),
            ("order-status", "orderly.order.v1.OrderConfirmed", "3"),
            ("notification-events", "orderly.notification.v1.NotificationRequested", "2"),
            ("notification-events", "orderly.notification.v1.NotificationRequested", "3"),
        ]
    );
    for (_, headers) in &records {
        for name in
            ["ce_specversion", "ce_id", "ce_source", "ce_time", "ce_subject", "content-type", "traceparent"]
        {
            assert!(headers.text(name).is_some_and(|value| !value.is_empty()), "{name} is missing");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_declined_payment_rejects_the_order_with_its_reason() -> anyhow::Result<()> {
    let platform = platform().await?;
    for (token, reason) in [
        ("tok_declined", StatusReason::PaymentDeclined),
        ("tok_insufficient_funds", StatusReason::InsufficientFunds),
    ] {
        let order = place(&platform, token).await?;
        let answer = reached(&platform, &order.order_id, OrderStatus::Rejected).await?;
        assert_eq!(answer.order.context("an order")?.status_reason(), reason);
        assert_eq!(told(&platform, &order.order_id, 1).await?, [OrderRejected]);
    }
    Ok(())
}

#[tokio::test]
async fn a_lost_answer_of_the_provider_charges_once() -> anyhow::Result<()> {
    let mut platform = platform().await?;
    platform.expect_log("outcome unknown, asking again");
    let order = place(&platform, "tok_timeout_once").await?;
    reached(&platform, &order.order_id, OrderStatus::Confirmed).await?;
    let charges = fs::read_to_string(platform.ledger(Part::Provider))?;
    assert_eq!(charges.lines().filter(|line| line.contains(&order.payment_id)).count(), 1);
    Ok(())
}

/// Every record of an order, by topic and offset.
fn records(kafka: &str, prefix: &str, order_id: &str) -> anyhow::Result<Vec<(String, Headers)>> {
    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("group.id", "reads-without-a-group")
        .create()?;
    let within = Duration::from_secs(10);
    let mut found = Vec::new();
    for topic in TOPICS {
        let name = format!("{prefix}{topic}");
        for partition in 0..12 {
            let (low, high) = reader.fetch_watermarks(&name, partition, within)?;
            if low == high {
                continue;
            }
            let mut assignment = TopicPartitionList::new();
            assignment.add_partition_offset(&name, partition, Offset::Beginning)?;
            reader.assign(&assignment)?;
            loop {
                // An empty poll may be the client's own event.
                let record = (0..100).find_map(|_| reader.poll(Duration::from_millis(100)));
                let record = record.context("a record below the high watermark")??;
                if record.key() == Some(order_id.as_bytes()) {
                    let headers = record.headers().context("headers")?;
                    let headers = headers
                        .iter()
                        .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)));
                    found.push((topic.to_owned(), headers.collect()));
                }
                if record.offset() + 1 >= high {
                    break;
                }
            }
        }
    }
    Ok(found)
}

//! Orders to which nothing bad happens, and those that are refused.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::Context as _;
use outbox::Headers;
use proto::{
    notification::v1::NotificationKind::{OrderConfirmed, OrderRejected, OrderShipped, PaymentReceipt},
    order::v1::{OrderStatus, StatusReason},
};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::{Headers as _, Message as _},
};
use testkit::{Part, TOPICS, until};

use crate::client::{SETTLE, place, platform, reached, shipped, stock, told};

#[tokio::test]
async fn an_order_is_reserved_paid_confirmed_shipped_and_told_once() -> anyhow::Result<()> {
    let platform = platform().await?;
    let before = stock(&platform, "gaming-mouse").await?;
    let order = place(&platform, "tok_ok").await?;
    assert_eq!((order.status(), order.version), (OrderStatus::Pending, 1));
    let answer = shipped(&platform, &order.order_id).await?;
    let history: Vec<_> =
        answer.history.iter().map(|step| (step.version, step.event.as_str(), step.status())).collect();
    assert_eq!(
        history,
        [
            (1, "OrderPlaced", OrderStatus::Pending),
            (2, "StockReserved", OrderStatus::StockReserved),
            (3, "PaymentSucceeded", OrderStatus::Paid),
            (4, "OrderConfirmed", OrderStatus::Confirmed),
            (5, "ShipmentScheduled", OrderStatus::Confirmed),
        ]
    );
    let times = answer.history.iter().map(|step| step.event_time.map(|time| (time.seconds, time.nanos)));
    let times = times.collect::<Option<Vec<_>>>().context("each step has its time")?;
    assert!(times.is_sorted(), "{times:?}");
    let shipment = answer.order.and_then(|order| order.shipment).context("a shipment")?;
    assert!(!shipment.carrier.is_empty() && shipment.ship_time.is_some(), "{shipment:?}");
    let after = stock(&platform, "gaming-mouse").await?;
    assert_eq!((after.on_hand, after.reserved), (before.on_hand - 1, 0));
    assert_eq!(told(&platform, &order.order_id, 3).await?, [PaymentReceipt, OrderConfirmed, OrderShipped]);
    let charges = fs::read_to_string(platform.ledger(Part::Provider))?;
    assert_eq!(charges.lines().filter(|line| line.contains(&order.payment_id)).count(), 1);

    // What the customer was told of may be published a moment before its neighbours.
    let records = until("every record is published", SETTLE, || async {
        let records = records(platform.kafka(), &platform.prefix, &order.order_id)?;
        Ok((records.len() >= 14).then_some(records))
    })
    .await?;
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
            ("stock-requests", "orderly.inventory.v1.ReserveStock", "1"),
            ("stock-requests", "orderly.inventory.v1.CommitStock", "4"),
            ("stock-results", "orderly.inventory.v1.StockReserved", "1"),
            ("stock-results", "orderly.inventory.v1.ShipmentScheduled", "2"),
            ("payment-requests", "orderly.billing.v1.PaymentRequested", "2"),
            ("payment-results", "orderly.billing.v1.PaymentSucceeded", "2"),
            ("order-status", "orderly.order.v1.OrderStockReserved", "2"),
            ("order-status", "orderly.order.v1.OrderPaid", "3"),
            ("order-status", "orderly.order.v1.OrderConfirmed", "4"),
            ("order-status", "orderly.order.v1.OrderShipped", "5"),
            ("notification-events", "orderly.notification.v1.NotificationRequested", "2"),
            ("notification-events", "orderly.notification.v1.NotificationRequested", "4"),
            ("notification-events", "orderly.notification.v1.NotificationRequested", "5"),
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
        let history: Vec<_> = answer.history.iter().map(|step| step.event.as_str()).collect();
        assert_eq!(
            history,
            ["OrderPlaced", "StockReserved", "CompensationStarted", "StockReleased", "OrderRejected"]
        );
        assert_eq!(told(&platform, &order.order_id, 1).await?, [OrderRejected]);
    }
    assert_eq!(stock(&platform, "gaming-mouse").await?.reserved, 0);
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
    let mut assignment = TopicPartitionList::new();
    let mut unread = BTreeMap::new();
    for topic in TOPICS {
        let name = format!("{prefix}{topic}");
        for partition in 0..12 {
            let (low, high) = reader.fetch_watermarks(&name, partition, Duration::from_secs(10))?;
            if low < high {
                assignment.add_partition_offset(&name, partition, Offset::Beginning)?;
                unread.insert((name.clone(), partition), high);
            }
        }
    }
    reader.assign(&assignment)?;
    let mut found = Vec::new();
    while !unread.is_empty() {
        // An empty poll may be the client's own event.
        let record = (0..100).find_map(|_| reader.poll(Duration::from_millis(100)));
        let record = record.context("a record below the high watermark")??;
        let place = (record.topic().to_owned(), record.partition());
        if record.key() == Some(order_id.as_bytes()) {
            let headers = record.headers().context("headers")?;
            let headers =
                headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)));
            let topic = TOPICS.iter().position(|topic| place.0.ends_with(topic)).context("a topic")?;
            found.push((topic, record.offset(), headers.collect()));
        }
        if unread.get(&place).is_some_and(|high| record.offset() + 1 >= *high) {
            unread.remove(&place);
        }
    }
    // All are in one partition of each topic.
    found.sort_by_key(|(topic, offset, _)| (*topic, *offset));
    Ok(found.into_iter().map(|(topic, _, headers)| (TOPICS[topic].to_owned(), headers)).collect())
}

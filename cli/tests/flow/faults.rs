//! What dies comes back, and nothing is lost or doubled by it.

use std::fs;

use proto::{
    notification::v1::NotificationKind::{OrderConfirmed, OrderShipped, PaymentReceipt},
    order::v1::OrderStatus,
};
use testkit::Part;

use crate::client::{place, platform, reached, shipped, told};

#[tokio::test]
async fn orders_are_accepted_while_a_service_is_down_and_confirmed_once_it_is_back() -> anyhow::Result<()> {
    let mut platform = platform().await?;
    let mut orders = Vec::new();
    for (part, waits) in
        [(Part::Inventory, OrderStatus::Pending), (Part::Billing, OrderStatus::StockReserved)]
    {
        platform.kill(part)?;
        let mut placed = Vec::new();
        for _ in 0..10 {
            placed.push(place(&platform, "tok_ok").await?);
        }
        for order in &placed {
            reached(&platform, &order.order_id, waits).await?;
        }
        platform.restart(part).await?;
        orders.extend(placed);
    }
    for order in &orders {
        shipped(&platform, &order.order_id).await?;
        let kinds = told(&platform, &order.order_id, 3).await?;
        assert_eq!(kinds, [PaymentReceipt, OrderConfirmed, OrderShipped]);
    }
    let charges = fs::read_to_string(platform.ledger(Part::Provider))?;
    assert_eq!(charges.lines().count(), orders.len());
    Ok(())
}

#[tokio::test]
async fn each_process_killed_in_turn_loses_and_doubles_nothing() -> anyhow::Result<()> {
    let mut platform = platform().await?;
    // A provider or mail server that is gone, and a lease that has to run out.
    for text in
        ["provider", "taken over", "batch rolled back", "kafka does not answer", "outcome", "lease", "mail"]
    {
        platform.expect_log(text);
    }
    let mut orders = Vec::new();
    for part in Part::ALL {
        orders.push(place(&platform, "tok_ok").await?);
        platform.kill(part)?;
        if part != Part::Order {
            orders.push(place(&platform, "tok_ok").await?);
        }
        platform.restart(part).await?;
    }
    for order in &orders {
        shipped(&platform, &order.order_id).await?;
        let kinds = told(&platform, &order.order_id, 3).await?;
        assert_eq!(kinds, [PaymentReceipt, OrderConfirmed, OrderShipped]);
    }
    let charges = fs::read_to_string(platform.ledger(Part::Provider))?;
    assert_eq!(charges.lines().count(), orders.len());
    Ok(())
}

#[tokio::test]
async fn a_record_that_cannot_be_processed_is_a_dead_letter_and_all_others_flow() -> anyhow::Result<()> {
    use rdkafka::{
        ClientConfig,
        producer::{FutureProducer, FutureRecord},
    };
    let mut platform = platform().await?;
    platform.expect_log("dead letter");
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", platform.kafka()).create()?;
    let topic = format!("{}payment-requests", platform.prefix);
    let record = FutureRecord::to(&topic).key("a stranger").payload("no protobuf").partition(3);
    producer.send(record, std::time::Duration::from_secs(10)).await.map_err(|(error, _)| error)?;
    testkit::until("billing names the record", crate::client::SETTLE, || async {
        let log = platform.log(Part::Billing)?;
        let words = ["payment-requests[3]@0", "header ce_source is missing or not text"];
        Ok(words.iter().all(|words| log.contains(words)).then_some(()))
    })
    .await?;
    let order = place(&platform, "tok_ok").await?;
    reached(&platform, &order.order_id, OrderStatus::Confirmed).await?;
    Ok(())
}

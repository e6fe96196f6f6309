//! What dies comes back, and nothing is lost or doubled by it.

use std::fs;

use proto::{
    notification::v1::NotificationKind::{OrderConfirmed, PaymentReceipt},
    order::v1::OrderStatus,
};
use testkit::Part;

use crate::client::{place, platform, reached, told};

#[tokio::test]
async fn orders_are_accepted_while_billing_is_down_and_confirmed_once_it_is_back() -> anyhow::Result<()> {
    let mut platform = platform().await?;
    platform.kill(Part::Billing)?;
    let mut orders = Vec::new();
    for _ in 0..10 {
        orders.push(place(&platform, "tok_ok").await?);
    }
    platform.restart(Part::Billing).await?;
    for order in &orders {
        reached(&platform, &order.order_id, OrderStatus::Confirmed).await?;
        assert_eq!(told(&platform, &order.order_id, 2).await?, [PaymentReceipt, OrderConfirmed]);
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
        reached(&platform, &order.order_id, OrderStatus::Confirmed).await?;
        assert_eq!(told(&platform, &order.order_id, 2).await?, [PaymentReceipt, OrderConfirmed]);
    }
    let charges = fs::read_to_string(platform.ledger(Part::Provider))?;
    assert_eq!(charges.lines().count(), orders.len());
    Ok(())
}

#[tokio::test]
async fn a_record_that_cannot_be_processed_stops_its_consumer_and_names_it() -> anyhow::Result<()> {
    use rdkafka::{
        ClientConfig,
        producer::{FutureProducer, FutureRecord},
    };
    let mut platform = platform().await?;
    platform.expect_log("consumer stopped");
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", platform.kafka()).create()?;
    let topic = format!("{}payment-requests", platform.prefix);
    let record = FutureRecord::to(&topic).key("a stranger").payload("no protobuf").partition(3);
    producer.send(record, std::time::Duration::from_secs(10)).await.map_err(|(error, _)| error)?;
    testkit::until("billing names the record", crate::client::SETTLE, || async {
        let log = platform.log(Part::Billing)?;
        Ok(log
            .contains("record payment-requests[3]@0 cannot be processed: header ce_source is missing")
            .then_some(()))
    })
    .await?;
    // Accepted all the same; it waits behind the record, and nothing is lost.
    let order = place(&platform, "tok_ok").await?;
    assert_eq!(order.status(), OrderStatus::Pending);
    Ok(())
}

#[tokio::test]
async fn a_record_that_postgres_will_never_take_is_found_among_others_and_named() -> anyhow::Result<()> {
    use outbox::Source;
    use proto::billing::v1::RefundRequested;
    use rdkafka::{
        ClientConfig,
        message::{Header, OwnedHeaders},
        producer::{FutureProducer, FutureRecord},
    };
    let mut platform = platform().await?;
    platform.expect_log("consumer stopped");
    let before = place(&platform, "tok_ok").await?;
    reached(&platform, &before.order_id, OrderStatus::Confirmed).await?;
    // Well formed in every way that a handler can see; PostgreSQL's text has no zero byte.
    let (payment_id, order_id) = (uuid::Uuid::now_v7(), uuid::Uuid::now_v7());
    let refund = RefundRequested {
        payment_id: payment_id.to_string(),
        order_id: order_id.to_string(),
        customer_id: "zero\0byte".to_owned(),
    };
    let event = Source::new("/orderly/stranger").event("payment-requests", order_id, 1, &refund);
    let headers = event
        .headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value }));
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", platform.kafka()).create()?;
    let topic = format!("{}payment-requests", platform.prefix);
    let payload = event.payload.unwrap_or_default();
    let record = FutureRecord::to(&topic).key("a stranger").payload(&payload).headers(headers).partition(3);
    producer.send(record, std::time::Duration::from_secs(10)).await.map_err(|(error, _)| error)?;
    testkit::until("billing names the record", crate::client::SETTLE, || async {
        let log = platform.log(Part::Billing)?;
        // PostgreSQL's own words: no handler has looked for it.
        let named = log.contains("record payment-requests[3]@") && log.contains("invalid byte sequence");
        Ok(named.then_some(()))
    })
    .await?;
    let words = platform.readyz(Part::Billing).await?.unwrap_or_default();
    assert!(
        words.starts_with("200 ") && words.contains("worker stopped: record payment-requests[3]@"),
        "{words}"
    );
    Ok(())
}

//! Topics: what is missing in them, what nobody has caused, what differs from its outbox, and what comes too early.

use cli::platform::Database::{Billing, Order};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders, OwnedMessage};
use uuid::Uuid;

use super::{Case, case, order_status, sql};
use crate::damage::{Orders, copy::Damage::Emptied};

pub fn cases(orders: &Orders) -> Vec<Case<'_>> {
    let paid = orders.confirmed.order_id.as_str();
    let (stranger, event) = (Uuid::now_v7(), Uuid::now_v7());
    let version_3 = format!("order {paid} in order-status from /orderly/order sequence 3");
    let another_id = move |record| with_header(record, "ce_id", Some(&event.to_string()));
    vec![
        case(
            "an event was never appended to its outbox",
            [
                sql(Order, outbox_row("delete from outbox.event", paid, "order-status", 3)),
                order_status(|records| drop(records.remove(at(records, paid, "OrderPaid")))),
            ],
            [("events-published", format!("{version_3}: missing orderly.order.v1.OrderPaid"))],
        ),
        case(
            "Kafka has lost a record",
            [order_status(|records| drop(records.remove(at(records, paid, "OrderPaid"))))],
            [
                ("events-published", format!("{version_3}: missing orderly.order.v1.OrderPaid")),
                ("outbox-topic", "of the order outbox): missing in order-status".into()),
            ],
        ),
        case(
            "the relay has seen a key overtaken",
            [sql(
                Billing,
                "insert into outbox.overtaken (topic, key, times) values ('payment-results', 'o-1', 2)",
            )],
            [(
                "order-per-key",
                "key o-1 in payment-results: was overtaken 2 times, says the billing outbox".into(),
            )],
        ),
        case(
            "retention has emptied partitions, which is no damage",
            [Emptied { but: paid, expired: true }],
            [],
        ),
        case(
            "an event was never appended to its outbox, and somebody empties the partitions that it is not in",
            [
                sql(Order, outbox_row("delete from outbox.event", paid, "order-status", 3)),
                order_status(|records| drop(records.remove(at(records, paid, "OrderPaid")))),
                Emptied { but: paid, expired: false },
            ],
            [
                ("events-published", format!("{version_3}: missing orderly.order.v1.OrderPaid")),
                ("outbox-topic", "of the order outbox): missing in order-status".into()),
            ],
        ),
        case(
            "somebody publishes an event of an order that nobody has placed",
            [order_status(move |records| {
                let record = another_id(records[at(records, paid, "OrderPaid")].clone());
                records.push(record.set_key(Some(stranger.to_string().into_bytes())));
            })],
            [
                (
                    "events-published",
                    format!("order {stranger} in order-status from /orderly/order sequence 3: phantom at"),
                ),
                ("outbox-topic", format!("event {event} at order-status/")),
            ],
        ),
        case(
            "somebody publishes what is no event",
            [order_status(|records| {
                let record = records[at(records, paid, "OrderPaid")].clone();
                records.push(with_header(record, "ce_id", None));
            })],
            [("events-published", "no event of this platform: it has no header ce_id".into())],
        ),
        case(
            "a row of an outbox is deleted, one gets another payload, and so does a repeated record",
            [
                sql(Order, outbox_row("delete from outbox.event", paid, "order-created", 1)),
                sql(
                    Billing,
                    outbox_row(
                        "update outbox.event set payload = payload || '\\x00'",
                        paid,
                        "payment-results",
                        2,
                    ),
                ),
                order_status(|records| {
                    let record = records[at(records, paid, "OrderConfirmed")].clone();
                    records.push(record.set_payload(None));
                }),
            ],
            [
                ("outbox-topic", "phantom: no outbox has it".into()),
                (
                    "outbox-topic",
                    "of the billing outbox): its record in payment-results has other bytes".into(),
                ),
                ("outbox-topic", "in order-status: published a second time with other bytes".into()),
            ],
        ),
        case(
            "two events of an order overtake each other",
            [order_status(|records| {
                let (one, two) = (at(records, paid, "OrderPaid"), at(records, paid, "OrderConfirmed"));
                records.swap(one, two);
            })],
            [(
                "order-per-key",
                format!("key {paid} in order-status from /orderly/order: sequence 3 at offset"),
            )],
        ),
        case(
            "an event comes again in another partition",
            [order_status(|records| {
                let record = records[at(records, paid, "OrderConfirmed")].clone();
                let elsewhere = (record.partition() + 1) % 12;
                records.push(record.set_partition(elsewhere));
            })],
            [("order-per-key", format!("key {paid} in order-status: is in partition"))],
        ),
        case(
            "an event has a twin",
            [order_status(move |records| {
                records.push(another_id(records[at(records, paid, "OrderConfirmed")].clone()));
            })],
            [
                ("outbox-topic", format!("event {event} at order-status/")),
                (
                    "order-per-key",
                    format!("key {paid} in order-status from /orderly/order: sequence 4 has two events"),
                ),
            ],
        ),
        case(
            "a relay that died repeats its last batch, which is no damage",
            [order_status(|records| {
                for event in ["OrderPaid", "OrderConfirmed"] {
                    records.push(records[at(records, paid, event)].clone());
                }
            })],
            [],
        ),
    ]
}

fn outbox_row(what: &str, order_id: &str, topic: &str, sequence: i32) -> String {
    format!("{what} where aggregate_id = '{order_id}' and topic = '{topic}' and sequence = {sequence}")
}

/// Where an event of an order is.
fn at(records: &[OwnedMessage], order_id: &str, event: &str) -> usize {
    let event = format!("orderly.order.v1.{event}");
    let is = |record: &OwnedMessage| {
        let mut headers = record.headers().into_iter().flat_map(|headers| headers.iter());
        record.key() == Some(order_id.as_bytes())
            && headers.any(|header| header.key == "ce_type" && header.value == Some(event.as_bytes()))
    };
    records.iter().position(is).expect("the order has such an event")
}

/// With another value of a header, or without it.
fn with_header(record: OwnedMessage, name: &str, value: Option<&str>) -> OwnedMessage {
    let mut headers = OwnedHeaders::new();
    for header in record.headers().into_iter().flat_map(|headers| headers.iter()) {
        if header.key != name {
            headers = headers.insert(header);
        } else if let Some(value) = value {
            headers = headers.insert(Header { key: name, value: Some(value) });
        }
    }
    record.replace_headers(Some(headers))
}

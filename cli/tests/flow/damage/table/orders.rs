//! Rest, the history of orders, and the orders that callers were promised.

use std::path::PathBuf;

use cli::platform::Database::{Notification, Order};
use uuid::Uuid;

use super::{Case, case, file, sql};
use crate::damage::{Orders, copy::Damage};

pub fn cases(orders: &Orders, run: PathBuf) -> Vec<Case<'_>> {
    let (paid, rejected) = (&orders.confirmed.order_id, &orders.rejected.order_id);
    let paid_id = &orders.confirmed.payment_id;
    let stranger = Uuid::now_v7();
    vec![
        case(
            "an event waits in an outbox, and a record for its group",
            [
                sql(
                    Order,
                    "insert into outbox.event (event_id, topic, key, aggregate_id, sequence, headers, payload)
                     select event_id, topic, key, aggregate_id, sequence, headers, payload from outbox.event
                     where topic = 'order-status' limit 1",
                ),
                Damage::Unread,
            ],
            [
                ("at-rest", "of the order outbox): is not published to order-status".into()),
                ("at-rest", "group order: has not read 1 records of payment-results".into()),
            ],
        ),
        case(
            "a notification waits for its delivery",
            [sql(
                Notification,
                format!(
                    "update notifications set status = 'PENDING', delivered_at = null
                     where order_id = '{rejected}'"
                ),
            )],
            [
                ("at-rest", "is still PENDING".into()),
                ("notifications", format!("(ORDER_REJECTED of order {rejected}): is not delivered")),
            ],
        ),
        case(
            "a notification was given up, and nobody is told of it",
            [sql(
                Notification,
                format!(
                    "update notifications set status = 'GIVEN_UP', delivered_at = null
                     where order_id = '{rejected}'"
                ),
            )],
            [(
                "notifications",
                format!("(ORDER_REJECTED of order {rejected}): was given up, and no dead letter tells"),
            )],
        ),
        case(
            "a notification was given up, and an operator has decided so, which is no damage",
            [sql(
                Notification,
                format!(
                    "update notifications set status = 'GIVEN_UP', delivered_at = null
                     where order_id = '{rejected}';
                     -- With headers that leave no room for a copy in the outbox.
                     insert into inbox.dead_letter
                         (id, consumer, topic, partition, \"offset\", key, source, event_id, headers, state, kind)
                     select gen_random_uuid(), consumer, topic, partition, \"offset\", '{rejected}', source, id,
                         convert_to(repeat(' ', 900000), 'UTF8'), 'discarded', 'undelivered'
                     from inbox.message limit 1;
                     insert into inbox.audit (actor, action, consumer, dead_letter, reason)
                     select 'ada', state, consumer, id, 'they have moved' from inbox.dead_letter"
                ),
            )],
            [],
        ),
        case(
            "an e-mail's notification went another way in the end, which is no damage",
            [sql(
                Notification,
                format!(
                    "update notifications set channel = 'LOG', email_address = null where order_id = '{rejected}'"
                ),
            )],
            [],
        ),
        case(
            "a confirmed order waits for its shipment",
            [sql(
                Order,
                format!(
                    "update orders set stock = 'RESERVED', deadline = now() + interval '1 hour'
                     where order_id = '{paid}'"
                ),
            )],
            [
                (
                    "at-rest",
                    format!("order {paid}: is still CONFIRMED, its stock RESERVED, its payment TAKEN"),
                ),
                ("order-history", format!("order {paid}: stock is RESERVED, its events say SHIPPED")),
            ],
        ),
        case(
            "an event in the middle of a history is deleted",
            [sql(Order, format!("delete from order_events where order_id = '{paid}' and version = 2"))],
            [
                ("order-history", format!("order {paid}: version 2 is missing, 3 follows")),
                (
                    "events-published",
                    format!("order {paid} in order-status from /orderly/order sequence 2: phantom"),
                ),
            ],
        ),
        case(
            "the last event of a history is deleted",
            [sql(Order, format!("delete from order_events where order_id = '{paid}' and version = 5"))],
            [
                (
                    "order-history",
                    format!(
                        "order {paid}: version is 5, its events say 4; stock is SHIPPED, its events say RESERVED"
                    ),
                ),
                ("order-history", "it waits for an answer, and has no deadline".into()),
                (
                    "events-published",
                    format!("order {paid} in notification-events from /orderly/order sequence 5: phantom"),
                ),
                ("notifications", format!("(ORDER_SHIPPED of order {paid}): nothing has caused it")),
            ],
        ),
        case(
            "the view says another status",
            [sql(Order, format!("update orders set status = 'REJECTED' where order_id = '{paid}'"))],
            [("order-history", format!("order {paid}: status is REJECTED, its events say CONFIRMED"))],
        ),
        case(
            "the view says another version, another way to end, and another payment leg",
            [sql(
                Order,
                format!(
                    "update orders set version = 6, outcome = 'REJECTED', payment = 'SETTLED'
                     where order_id = '{paid}'"
                ),
            )],
            [
                ("order-history", format!("order {paid}: version is 6, its events say 5")),
                ("order-history", "payment is SETTLED, its events say TAKEN".into()),
                ("order-history", "outcome is REJECTED, its events say none".into()),
            ],
        ),
        case(
            "the view says other items",
            [sql(
                Order,
                format!(
                    "update orders set items = jsonb_set(items, '{{0,quantity}}', '2') where order_id = '{paid}'"
                ),
            )],
            [(
                "order-history",
                format!("order {paid}: items is 2 gaming-mouse, its events say 1 gaming-mouse"),
            )],
        ),
        case(
            "a deadline has passed, and nobody has done anything about it",
            [sql(
                Order,
                format!("update orders set deadline = now() - interval '1 hour' where order_id = '{paid}'"),
            )],
            [
                ("order-history", format!("order {paid}: it waits for nothing, and has a deadline")),
                ("sagas", format!("order {paid}: is CONFIRMED, and its deadline passed 36")),
            ],
        ),
        case(
            "an order was asked for more often than its events say",
            [sql(Order, format!("update orders set attempts = 2 where order_id = '{rejected}'"))],
            [("sagas", format!("order {rejected}: has asked again 2 times, its events say 0"))],
        ),
        case(
            "an order is gone without a trace in its database",
            [sql(
                Order,
                format!(
                    "delete from order_events where order_id = '{paid}';
                     delete from orders where order_id = '{paid}'"
                ),
            )],
            [
                ("events-published", format!("order {paid} in order-created")),
                (
                    "stock",
                    format!("reservation of order {paid}: there is no such order, and it is COMMITTED"),
                ),
                ("payments", format!("payment {paid_id} of order {paid}: there is no such order")),
                ("notifications", format!("(ORDER_CONFIRMED of order {paid}): nothing has caused it")),
            ],
        ),
        case(
            "one acknowledged order is not there, and one is over another amount",
            [file(run, move |text| {
                *text = text.replacen("\"total_minor\":", "\"total_minor\":1", 1);
                let order = r#""customer_id":"cust-1","total_minor":1,"currency":"EUR""#;
                text.push_str(&format!(
                    "{{\"order_id\":\"{stranger}\",\"request_id\":\"{stranger}\",{order}}}\n"
                ));
            })],
            [
                ("acked", format!("order {stranger} of run ")),
                ("acked", ", acknowledged over EUR 1".into()),
            ],
        ),
    ]
}

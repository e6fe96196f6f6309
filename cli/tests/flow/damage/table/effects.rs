//! What records have caused: inboxes, money, and what customers are told.

use cli::platform::Database::{Billing, Notification, Order};
use uuid::Uuid;

use super::{Case, case, file, sql};
use crate::damage::Orders;

pub fn cases(orders: &Orders) -> Vec<Case<'_>> {
    let (paid, paid_id) = (orders.confirmed.order_id.as_str(), orders.confirmed.payment_id.as_str());
    let (rejected, cancelled) = (&orders.rejected.order_id, &orders.cancelled.order_id);
    let stranger = Uuid::now_v7();
    let payment = format!("payment {paid_id} of order {paid}:");
    let receipt = format!("(PAYMENT_RECEIPT of order {paid}):");
    let charge = move |text: &str| line(text, &[paid_id, "charge"]);
    vec![
        case(
            "rows of inboxes: one is deleted, one is there twice, one is of no record",
            [
                sql(Order, "delete from inbox.message where id = (select id from inbox.message limit 1)"),
                sql(
                    Billing,
                    "insert into inbox.message (slot, consumer, source, id, topic, partition, \"offset\")
                     select (slot + 1) % 32, consumer, source, id, topic, partition, \"offset\"
                     from inbox.message limit 1",
                ),
                sql(
                    Notification,
                    format!(
                        "update inbox.message set id = '{stranger}'
                         where id = (select id from inbox.message limit 1)"
                    ),
                ),
            ],
            [
                ("effects-once", "in group order: no effect (key ".into()),
                ("effects-once", "in group billing: took effect 2 times".into()),
                ("effects-once", format!("event {stranger} from /orderly/")),
                ("effects-once", "in group notification: no effect".into()),
            ],
        ),
        case(
            "a refund takes effect before the payment that it is for",
            [sql(Billing, "update inbox.message set seq = -seq")],
            [(
                "effects-once",
                format!(
                    "key {cancelled} from /orderly/order in group billing: sequence 2 took effect after 3"
                ),
            )],
        ),
        case(
            "a record waits for a dead letter that does not exist",
            [sql(
                Billing,
                "insert into inbox.dead_letter
                    (id, consumer, topic, partition, \"offset\", key, source, event_id, headers, state)
                 select gen_random_uuid(), consumer, topic, partition, \"offset\", 'o-1', source, id, '', 'held'
                 from inbox.message limit 1",
            )],
            [
                ("dead-letters", "in group billing): waits, and nothing holds its key".into()),
                ("dead-letters", "in group billing): the audit knows nothing of it".into()),
            ],
        ),
        case(
            "a replay of dead letters is not done",
            [sql(
                Billing,
                "insert into inbox.replay (id, consumer, actor, reason, selected)
                 values (gen_random_uuid(), 'billing', 'ada', 'a try', 1)",
            )],
            [("at-rest", ": is still running".into())],
        ),
        case(
            "the provider has charged one payment twice, and one that nobody owes",
            [file("provider.ndjson", move |text| {
                let charge = charge(text);
                text.push_str(&charge);
                text.push_str(&charge.replace(paid_id, &stranger.to_string()));
            })],
            [
                ("payments", format!("{payment} is SUCCEEDED and was charged 2 times at the provider")),
                (
                    "payments",
                    format!("payment {stranger} at the provider: 1 charges, 0 refunds, 0 declines without"),
                ),
            ],
        ),
        case(
            "the provider has never charged",
            [file("provider.ndjson", move |text| *text = text.replace(&charge(text), ""))],
            [("payments", format!("{payment} is SUCCEEDED and was charged 0 times at the provider"))],
        ),
        case(
            "a payment is deleted",
            [sql(
                Billing,
                format!(
                    "delete from ledger_postings where payment_id = '{paid_id}';
                     delete from payments where payment_id = '{paid_id}'"
                ),
            )],
            [
                (
                    "events-published",
                    format!("order {paid} in payment-results from /orderly/billing sequence 2: phantom"),
                ),
                ("payments", format!("order {paid}: is CONFIRMED and has no payment")),
                ("payments", format!("payment {paid_id} at the provider: 1 charges")),
                ("notifications", format!("{receipt} nothing has caused it")),
            ],
        ),
        case(
            "a payment is over another amount",
            [sql(Billing, format!("update payments set amount_minor = 1 where payment_id = '{paid_id}'"))],
            [
                ("payments", format!("{payment} is EUR 1, its order EUR 4999")),
                ("payments", format!("{payment} is EUR 1 and was charged EUR 4999 at the provider")),
            ],
        ),
        case(
            "part of the money was never given back",
            [sql(
                Billing,
                format!(
                    "update payments set status = 'REFUNDED', version = 4, refunded_minor = 1
                     where payment_id = '{paid_id}'"
                ),
            )],
            [
                (
                    "events-published",
                    format!(
                        "order {paid} in payment-results from /orderly/billing sequence 4: missing \
                         orderly.billing.v1.PaymentRefunded"
                    ),
                ),
                ("payments", format!("{payment} is REFUNDED, its order CONFIRMED")),
                ("payments", format!("{payment} is REFUNDED, and gave back 1 of 4999")),
            ],
        ),
        case(
            "half an entry of billing's ledger is deleted",
            [sql(
                Billing,
                format!(
                    "delete from ledger_postings where payment_id = '{paid_id}' and account = 'CUSTOMER_SALES'"
                ),
            )],
            [
                (
                    "payments",
                    format!("{payment} is SUCCEEDED and has a charge of 0 on CUSTOMER_SALES, -4999"),
                ),
                ("payments", "sums to EUR 4999, not to 0".into()),
            ],
        ),
        case(
            "a notification is deleted, and one goes to somebody else",
            [sql(
                Notification,
                format!(
                    "delete from notifications where order_id = '{rejected}';
                     update notifications set customer_id = 'cust-2' where order_id = '{cancelled}'"
                ),
            )],
            [
                ("notifications", format!("order {rejected}: ORDER_REJECTED was never told")),
                ("notifications", "@orderly: no notification has caused it".into()),
                ("notifications", format!("(ORDER_CANCELLED of order {cancelled}): went to customer cust-2")),
            ],
        ),
        case(
            "one e-mail was never sent, and one for no reason",
            [file("mail.ndjson", move |text| {
                *text = text.replace(&line(text, &[paid, "PAYMENT_RECEIPT"]), "");
                text.push_str("{\"message_id\":\"stranger@orderly\"}\n");
            })],
            [
                ("notifications", format!("{receipt} its e-mail was never sent")),
                ("notifications", "e-mail stranger@orderly: no notification has caused it".into()),
            ],
        ),
    ]
}

/// The line of a ledger that contains all of these, with its end.
fn line(text: &str, words: &[&str]) -> String {
    let is = |line: &&str| words.iter().all(|word| line.contains(word));
    format!("{}\n", text.lines().find(is).expect("there is such a line"))
}

//! A small platform at rest whose promise holds: paid, rejected, refunded, and cancelled before it was ever charged.

use std::collections::HashMap;

use uuid::Uuid;

use crate::{
    platform::Database,
    verify::{
        expected,
        facts::{
            Acked, AckedOrder, DeadLetter, EventType, Facts, Group, InboxRow, LetterState, Money,
            Notification, NotificationKind, Order, OrderEvent, OrderEventKind, OrderStatus, OutboxRow,
            Payment, PaymentStatus, Placed, Posting, ProviderLines, Record, Source, Span, Topic, partition,
        },
    },
};

/// Where all records are.
pub(super) const PARTITION: i32 = 3;
pub(super) const PARTITIONS: i32 = 12;

/// The facts and the orders in them.
pub(super) struct World {
    pub(super) facts: Facts,
    pub(super) confirmed: Uuid,
    pub(super) rejected: Uuid,
    pub(super) refunded: Uuid,
    pub(super) cancelled: Uuid,
    next: u64,
}

impl World {
    pub(super) fn new() -> Self {
        use OrderEventKind::{
            CancellationRequested, Cancelled, Confirmed, PaymentSucceeded, Placed, Rejected,
        };
        let [confirmed, rejected, refunded, cancelled] = std::array::from_fn(|_| order_id());
        let facts = Facts { inbox_days: 0..i64::MAX, ..Facts::default() };
        let mut world = Self { facts, confirmed, rejected, refunded, cancelled, next: 0 };
        world.order(confirmed, OrderStatus::Confirmed, None, &[Placed, PaymentSucceeded, Confirmed]);
        world.order(rejected, OrderStatus::Rejected, Some("PAYMENT_DECLINED"), &[Placed, Rejected]);
        let by_customer = Some("CANCELLED_BY_CUSTOMER");
        for order in [refunded, cancelled] {
            world.order(
                order,
                OrderStatus::Cancelled,
                by_customer,
                &[Placed, CancellationRequested, Cancelled],
            );
        }
        world.payment(confirmed, PaymentStatus::Succeeded, 2, true);
        world.payment(rejected, PaymentStatus::Failed, 2, false);
        world.payment(refunded, PaymentStatus::Refunded, 4, true);
        world.payment(cancelled, PaymentStatus::Refunded, 1, false);
        world.notification(confirmed, NotificationKind::PaymentReceipt, false);
        world.notification(confirmed, NotificationKind::OrderConfirmed, true);
        world.notification(rejected, NotificationKind::OrderRejected, false);
        world.notification(refunded, NotificationKind::PaymentReceipt, false);
        world.notification(refunded, NotificationKind::OrderCancelled, true);
        world.notification(cancelled, NotificationKind::OrderCancelled, false);
        world.publish();
        // Once refused by billing, and replayed since.
        let replayed = world.letter(world.record(refunded, EventType::RefundRequested));
        replayed.state = LetterState::Replayed;
        replayed.audited = ["parked", "replay", "replayed"].map(str::to_owned).to_vec();
        world
    }

    /// Makes a parked letter of a record that billing has read, with its copy in the outbox.
    pub(super) fn letter(&mut self, record: usize) -> &mut DeadLetter {
        let record = self.facts.log.records[record].clone();
        let (id, seq, row) = (Uuid::now_v7(), self.next(), self.next());
        self.facts.outbox.push(OutboxRow {
            database: Database::Billing,
            row,
            event_id: Some(id),
            topic: format!("{}.billing.dlq", record.topic),
            key: Some(record.key),
            created_ms: 1,
            digest: *id.as_bytes(),
        });
        self.facts.dead_letters.push(DeadLetter {
            group: Group::Billing,
            id,
            seq,
            topic: record.topic.name().to_owned(),
            partition: record.partition,
            offset: record.offset,
            key_hash: Some(record.key.as_bytes().to_vec()),
            identity: Some((record.source.name().to_owned(), record.id.to_string())),
            state: LetterState::Parked,
            copied: true,
            replaying: false,
            audited: vec!["parked".to_owned()],
        });
        self.facts.dead_letters.last_mut().expect("it was pushed")
    }

    pub(super) fn payment_of(&mut self, order: Uuid) -> &mut Payment {
        self.facts.payments.iter_mut().find(|payment| payment.order_id == order).expect("it has one")
    }

    pub(super) fn record(&self, order: Uuid, event_type: EventType) -> usize {
        let found = self
            .facts
            .log
            .records
            .iter()
            .position(|record| record.key == order && record.event_type == event_type);
        found.expect("it was published")
    }

    /// A new offset, id, or whatever else must differ.
    pub(super) fn next(&mut self) -> i64 {
        self.next += 1;
        i64::try_from(self.next).expect("small")
    }

    fn order(&mut self, id: Uuid, status: OrderStatus, reason: Option<&str>, kinds: &[OrderEventKind]) {
        let (customer_id, payment_id, request_id) = ("cust-1".to_owned(), Uuid::now_v7(), Uuid::new_v4());
        let total = Money { currency: "EUR".to_owned(), minor: 4999 };
        let version = i32::try_from(kinds.len()).expect("few");
        for (&kind, version) in kinds.iter().zip(1..) {
            let placed = Placed { customer_id: customer_id.clone(), total: total.clone(), payment_id };
            self.facts.order_events.push(OrderEvent {
                order_id: id,
                version,
                kind,
                reason: (kind != OrderEventKind::Placed).then_some(reason).flatten().map(str::to_owned),
                placed: (kind == OrderEventKind::Placed).then_some(placed),
            });
        }
        self.facts.acked.orders.push(AckedOrder {
            run: "first".into(),
            order_id: id,
            customer_id: customer_id.clone(),
            request_id,
            total: total.clone(),
        });
        self.facts.acked = Acked { files: 1, ..std::mem::take(&mut self.facts.acked) };
        let reason = reason.map(str::to_owned);
        let request_id = Some(request_id);
        let order = Order { customer_id, status, version, reason, total, payment_id, request_id };
        self.facts.orders.insert(id, order);
    }

    fn payment(&mut self, order_id: Uuid, status: PaymentStatus, version: i32, taken: bool) {
        let order = &self.facts.orders[&order_id];
        let amount = order.total.clone();
        let tombstone = version == 1;
        let refunded = taken && status == PaymentStatus::Refunded;
        let reference = taken.then(|| format!("ch-{order_id}"));
        self.facts.payments.push(Payment {
            id: order.payment_id,
            order_id,
            customer_id: order.customer_id.clone(),
            amount: if tombstone { Money { currency: "XXX".to_owned(), minor: 0 } } else { amount.clone() },
            status,
            failed: status == PaymentStatus::Failed,
            version,
            reference: reference.clone(),
            refunded_minor: if refunded { amount.minor } else { 0 },
        });
        let mut lines = ProviderLines::default();
        for refund in [false, true].into_iter().take(usize::from(taken) + usize::from(refunded)) {
            let (entry_id, sign) = (Uuid::now_v7(), if refund { -1 } else { 1 });
            for (account, sign) in [("PROVIDER_CLEARING", sign), ("CUSTOMER_SALES", -sign)] {
                let amount = Money { minor: sign * amount.minor, ..amount.clone() };
                let (payment_id, account) = (order.payment_id, account.to_owned());
                self.facts.postings.push(Posting { entry_id, payment_id, refund, account, amount });
            }
            if refund {
                lines.refunds.push(amount.clone());
            } else {
                lines.charges.extend(reference.clone().map(|reference| (amount.clone(), reference)));
            }
        }
        lines.declines = u32::from(status == PaymentStatus::Failed);
        self.facts.provider.insert(order.payment_id, lines);
    }

    fn notification(&mut self, order_id: Uuid, kind: NotificationKind, email: bool) {
        let (id, customer_id) = (Uuid::now_v7(), self.facts.orders[&order_id].customer_id.clone());
        self.facts.notifications.push(Notification {
            id,
            order_id,
            customer_id,
            kind,
            email,
            delivered: true,
        });
        if email {
            self.facts.mails.insert(format!("{id}@orderly"), 1);
        }
    }

    /// Every expected record, from an outbox row to an inbox row.
    fn publish(&mut self) {
        let mut wanted = Vec::new();
        for event in &self.facts.order_events {
            for (topic, types) in expected::of_order_event(event.kind) {
                wanted.push((*topic, Source::Order, event.order_id, event.version, types[0]));
            }
        }
        for payment in &self.facts.payments {
            for (topic, version, types) in expected::of_payment(payment) {
                wanted.push((topic, Source::Billing, payment.order_id, version, types[0]));
            }
        }
        wanted.sort_by_key(|(topic, source, order, version, _)| (*topic, *order, *source, *version));
        for (&topic, partition) in
            Topic::ALL.iter().flat_map(|topic| std::iter::repeat(topic).zip(0..PARTITIONS))
        {
            let span = Span { low: 0, first_ms: None, expired_ms: 0 };
            self.facts.log.partitions.insert((topic, partition), span);
        }
        let mut offsets: HashMap<Topic, i64> = HashMap::new();
        for (topic, source, order, version, event_type) in wanted {
            let offset = offsets.entry(topic).or_default();
            *offset += 1;
            let record = Record {
                topic,
                partition: PARTITION,
                offset: *offset,
                key: order,
                source,
                event_type,
                sequence: i64::from(version),
                id: Uuid::now_v7(),
                digest: *Uuid::now_v7().as_bytes(),
            };
            self.store(&record);
            self.take_effect(&record);
            self.facts.log.records.push(record);
        }
    }

    fn store(&mut self, record: &Record) {
        let row = self.next();
        self.facts.outbox.push(OutboxRow {
            database: if record.source == Source::Order { Database::Order } else { Database::Billing },
            row,
            event_id: Some(record.id),
            topic: record.topic.name().to_owned(),
            key: Some(record.key),
            created_ms: 1,
            digest: record.digest,
        });
    }

    fn take_effect(&mut self, record: &Record) {
        let Some(group) = Group::ALL.into_iter().find(|group| group.topic() == record.topic) else { return };
        let seq = self.next();
        self.facts.inbox.push(InboxRow {
            group,
            source: record.source.name().to_owned(),
            id: record.id.to_string(),
            seq,
            topic: record.topic.name().to_owned(),
            partition: record.partition,
            offset: record.offset,
        });
    }
}

/// An id whose partition is [`PARTITION`].
fn order_id() -> Uuid {
    std::iter::repeat_with(Uuid::now_v7)
        .find(|id| partition::of_key(*id, PARTITIONS) == PARTITION)
        .expect("one of twelve is")
}

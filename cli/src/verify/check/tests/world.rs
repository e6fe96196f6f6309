//! A small platform at rest whose promise holds: shipped, declined, out of stock, cancelled before and after its
//! confirmation.

mod orders;
mod rows;

use std::{collections::HashMap, sync::Arc};

use uuid::Uuid;

pub(super) use self::{
    orders::{event, with_reason},
    rows::{View, offer},
};
use crate::{
    platform::Database,
    verify::{
        expected,
        facts::{
            DeadLetter, EventType, Facts, Group, InboxRow, Key, LetterState, OutboxRow, Payment, Record,
            Reservation, Source, Span, Topic, partition,
        },
        saga::steps,
    },
};

/// Where all records are.
pub(super) const PARTITION: i32 = 3;
pub(super) const PARTITIONS: i32 = 12;

/// The facts, the orders in them, and the product that they want one of.
pub(super) struct World {
    pub(super) facts: Facts,
    pub(super) confirmed: Uuid,
    /// Because its payment was declined.
    pub(super) rejected: Uuid,
    pub(super) out_of_stock: Uuid,
    /// After it was confirmed.
    pub(super) refunded: Uuid,
    /// Before it had any stock.
    pub(super) cancelled: Uuid,
    pub(super) product: Arc<str>,
    next: u64,
}

impl World {
    pub(super) fn new() -> Self {
        let mut world = Self::without_records();
        world.publish();
        // Once refused by billing, and replayed since.
        let replayed = world.letter(world.record(world.refunded, EventType::RefundRequested));
        replayed.state = LetterState::Replayed;
        replayed.audited = ["parked", "replay", "replayed"].map(str::to_owned).to_vec();
        world
    }

    /// With one more order, which has come so far.
    pub(super) fn with(add: impl FnOnce(&mut Self)) -> Self {
        let mut world = Self::without_records();
        add(&mut world);
        world.publish();
        world
    }

    fn without_records() -> Self {
        let [confirmed, rejected, out_of_stock, refunded, cancelled] = std::array::from_fn(|_| order_id());
        let product =
            (0..).map(|n| format!("mouse-{n}").into()).find(|id| is_here(&Key::Product(Arc::clone(id))));
        let product = product.expect("one of twelve is");
        let facts = Facts { inbox_days: 0..i64::MAX, ..Facts::default() };
        let mut world =
            Self { facts, confirmed, rejected, out_of_stock, refunded, cancelled, product, next: 0 };
        world.list_product();
        world.add_orders();
        world
    }

    /// Makes a parked letter of a record that billing has read, with its copy in the outbox.
    pub(super) fn letter(&mut self, record: usize) -> &mut DeadLetter {
        let record = self.facts.log.records[record].clone();
        let (id, seq, row) = (Uuid::now_v7(), self.next(), self.next());
        let key_hash = Some(record.key.to_string().into_bytes());
        self.facts.outbox.push(OutboxRow {
            database: Database::Billing,
            row,
            event_id: Some(id),
            topic: format!("{}.billing.dlq", record.topic),
            key: None,
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
            key_hash,
            about: Some(record.key),
            identity: Some((record.source.name().to_owned(), record.id.to_string())),
            state: LetterState::Parked,
            copied: true,
            undelivered: false,
            replayed: false,
            replaying: false,
            audited: vec!["parked".to_owned()],
        });
        self.facts.dead_letters.last_mut().expect("it was pushed")
    }

    pub(super) fn payment_of(&mut self, order: Uuid) -> &mut Payment {
        self.facts.payments.iter_mut().find(|payment| payment.order_id == order).expect("it has one")
    }

    pub(super) fn reservation_of(&mut self, order: Uuid) -> &mut Reservation {
        self.facts.reservations.iter_mut().find(|held| held.order_id == order).expect("it has one")
    }

    pub(super) fn record(&self, order: Uuid, event_type: EventType) -> usize {
        let key = Key::Order(order);
        let mut records = self.facts.log.records.iter();
        let found = records.position(|record| record.key == key && record.event_type == event_type);
        found.expect("it was published")
    }

    /// A new offset, id, or whatever else must differ.
    pub(super) fn next(&mut self) -> i64 {
        self.next += 1;
        i64::try_from(self.next).expect("small")
    }

    /// Every expected record, from an outbox row to an inbox row.
    fn publish(&mut self) {
        let mut wanted = Vec::new();
        for (before, event) in steps(&self.facts.order_events) {
            for (topic, types) in expected::of_order_event(&before, event) {
                wanted.push((topic, Source::Order, Key::Order(event.order_id), event.version, types[0]));
            }
        }
        for reservation in &self.facts.reservations {
            for (topic, version, types) in expected::of_reservation(reservation) {
                let key = Key::Order(reservation.order_id);
                wanted.push((topic, Source::Inventory, key, version, types[0]));
            }
        }
        for payment in &self.facts.payments {
            for (topic, version, types) in expected::of_payment(payment, &[]) {
                wanted.push((topic, Source::Billing, Key::Order(payment.order_id), version, types[0]));
            }
        }
        for (id, product) in &self.facts.products {
            for ((topic, version, types), _) in product.listed.iter().flat_map(expected::of_product) {
                let key = Key::Product(Arc::clone(id));
                wanted.push((topic, Source::Inventory, key, version, types[0]));
            }
        }
        wanted.sort_by(|(topic, source, key, version, _), (topic_2, source_2, key_2, version_2, _)| {
            (topic, key, source, version).cmp(&(topic_2, key_2, source_2, version_2))
        });
        for (&topic, partition) in
            Topic::ALL.iter().flat_map(|topic| std::iter::repeat(topic).zip(0..PARTITIONS))
        {
            let span = Span { low: 0, first_ms: None, expired_ms: 0 };
            self.facts.log.partitions.insert((topic, partition), span);
        }
        let mut offsets: HashMap<Topic, i64> = HashMap::new();
        for (topic, source, key, version, event_type) in wanted {
            let offset = offsets.entry(topic).or_default();
            *offset += 1;
            let record = Record {
                topic,
                partition: PARTITION,
                offset: *offset,
                key,
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
            database: match record.source {
                Source::Order => Database::Order,
                Source::Inventory => Database::Inventory,
                Source::Billing => Database::Billing,
            },
            row,
            event_id: Some(record.id),
            topic: record.topic.name().to_owned(),
            key: Some(record.key.clone()),
            created_ms: 1,
            digest: record.digest,
        });
    }

    fn take_effect(&mut self, record: &Record) {
        for group in Group::ALL.into_iter().filter(|group| group.topics().contains(&record.topic)) {
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
}

/// An id whose partition is [`PARTITION`].
pub(super) fn order_id() -> Uuid {
    std::iter::repeat_with(Uuid::now_v7).find(|id| is_here(&Key::Order(*id))).expect("one of twelve is")
}

fn is_here(key: &Key) -> bool {
    partition::of_key(key, PARTITIONS) == PARTITION
}

//! What an audit works on: compact copies of rows, records and ledger lines, read by `collect` and judged by `check`.
//!
//! Payloads are not kept, only digests: an order costs about a kilobyte here, whatever its events weigh.

mod group;
mod inventory;
mod key;
mod letters;
mod names;
mod order;
pub(super) mod partition;

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use uuid::Uuid;

pub(super) use self::group::Group;
pub(super) use self::inventory::{Basket, Listed, Offer, Product, Reservation};
pub(super) use self::key::Key;
pub(super) use self::letters::{DeadLetter, Hold};
pub(super) use self::names::{
    EventType, LetterState, NotificationKind, NotificationStatus, OrderEventKind, OrderStatus, PaymentLeg,
    PaymentStatus, Reason, ReservationState, Source, StockLeg, Topic,
};
pub(super) use self::order::{Order, OrderEvent, Placed};
pub(super) use self::partition::Span;
use crate::platform::Database;

/// The first half of a SHA-256: 128 bits do not meet by accident.
pub(super) type Digest = [u8; 16];

/// Everything that was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) orders: HashMap<Uuid, Order>,
    /// By order, then version.
    pub(super) order_events: Vec<OrderEvent>,
    pub(super) products: BTreeMap<Arc<str>, Product>,
    /// What the order service knows of the catalogue: its own table `products`.
    pub(super) offers: BTreeMap<Arc<str>, Offer>,
    pub(super) reservations: Vec<Reservation>,
    pub(super) payments: Vec<Payment>,
    pub(super) postings: Vec<Posting>,
    pub(super) notifications: Vec<Notification>,
    pub(super) outbox: Vec<OutboxRow>,
    pub(super) overtaken: Vec<Overtaken>,
    /// Days since 1970 whose rows no outbox can have cleared yet, from this one on.
    pub(super) outbox_kept_since: i64,
    pub(super) inbox: Vec<InboxRow>,
    /// Days since 1970 whose events no inbox can have forgotten yet. Those of other days it does not take.
    pub(super) inbox_days: Range<i64>,
    pub(super) dead_letters: Vec<DeadLetter>,
    pub(super) holds: Vec<Hold>,
    pub(super) log: Log,
    pub(super) provider: HashMap<Uuid, ProviderLines>,
    /// How often each Message-ID was sent.
    pub(super) mails: BTreeMap<String, u64>,
    pub(super) acked: Acked,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Money {
    pub(super) currency: String,
    pub(super) minor: i64,
}

/// A row of `payments`.
#[derive(Clone, Debug)]
pub(super) struct Payment {
    pub(super) id: Uuid,
    pub(super) order_id: Uuid,
    pub(super) customer_id: String,
    pub(super) amount: Money,
    pub(super) status: PaymentStatus,
    pub(super) failed: bool,
    /// Nobody was ever to carry it out.
    pub(super) untried: bool,
    pub(super) version: i32,
    /// There is one exactly where money was taken.
    pub(super) reference: Option<String>,
    pub(super) refunded_minor: i64,
    /// In milliseconds since 1970: of its last version, or later while it is pending.
    pub(super) updated_ms: i64,
}

/// A row of `ledger_postings`.
#[derive(Clone, Debug)]
pub(super) struct Posting {
    pub(super) entry_id: Uuid,
    pub(super) payment_id: Uuid,
    pub(super) refund: bool,
    pub(super) account: String,
    pub(super) amount: Money,
}

/// A row of `notifications`.
#[derive(Clone, Debug)]
pub(super) struct Notification {
    pub(super) id: Uuid,
    pub(super) order_id: Uuid,
    pub(super) customer_id: String,
    pub(super) kind: NotificationKind,
    pub(super) email: bool,
    pub(super) status: NotificationStatus,
}

/// A row of `outbox.event`.
#[derive(Clone, Debug)]
pub(super) struct OutboxRow {
    pub(super) database: Database,
    pub(super) row: i64,
    pub(super) event_id: Option<Uuid>,
    pub(super) topic: String,
    /// Of an event of this platform.
    pub(super) key: Option<Key>,
    /// Milliseconds since 1970.
    pub(super) created_ms: i64,
    pub(super) digest: Digest,
}

/// A row of `outbox.overtaken`.
#[derive(Clone, Debug)]
pub(super) struct Overtaken {
    pub(super) database: Database,
    pub(super) topic: String,
    pub(super) key: String,
    pub(super) times: i64,
}

/// A row of `inbox.message`.
#[derive(Clone, Debug)]
pub(super) struct InboxRow {
    pub(super) group: Group,
    pub(super) source: String,
    pub(super) id: String,
    pub(super) seq: i64,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// The records of every topic.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    /// By topic, key and source, then in the order of the log.
    pub(super) records: Vec<Record>,
    pub(super) strays: Vec<Stray>,
    pub(super) partitions: BTreeMap<(Topic, i32), Span>,
}

#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) topic: Topic,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) key: Key,
    pub(super) source: Source,
    pub(super) event_type: EventType,
    pub(super) sequence: i64,
    pub(super) id: Uuid,
    pub(super) digest: Digest,
}

/// A record that no service of this platform writes.
#[derive(Clone, Debug)]
pub(super) struct Stray {
    pub(super) topic: Topic,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) problem: String,
}

/// What the provider's ledger says of one payment.
#[derive(Clone, Debug, Default)]
pub(super) struct ProviderLines {
    pub(super) charges: Vec<(Money, String)>,
    pub(super) declines: u32,
    pub(super) refunds: Vec<Money>,
}

/// The acknowledged orders of those runs that were made against this cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Acked {
    pub(super) orders: Vec<AckedOrder>,
    pub(super) files: usize,
    pub(super) other_files: usize,
}

#[derive(Clone, Debug)]
pub(super) struct AckedOrder {
    pub(super) run: Arc<str>,
    pub(super) order_id: Uuid,
    pub(super) customer_id: String,
    pub(super) request_id: Uuid,
    pub(super) total: Money,
}

impl Record {
    /// What the records of a log are sorted by.
    pub(super) fn place(&self) -> impl Ord + '_ {
        (self.topic, &self.key, self.source, self.partition, self.offset)
    }
}

impl Payment {
    /// Whether the provider still owes an answer.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.status, PaymentStatus::Pending | PaymentStatus::Refunding)
    }

    /// Whether a refund came before any request.
    pub(super) fn is_tombstone(&self) -> bool {
        self.amount.currency == "XXX"
    }
}

impl std::fmt::Display for Money {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.currency, self.minor)
    }
}

/// Milliseconds since 1970 inside a UUIDv7.
pub(super) fn millis_of(id: Uuid) -> i64 {
    i64::try_from(id.as_u128() >> 80).unwrap_or(0)
}

//! What a service reads, in one place: topics, the event types that it knows, and what happens to a record that cannot
//! be processed.

use prost::Name;

use crate::{Kind, Message, error::Failure};

/// A consumer group and all that it reads.
#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    /// Consumer group, without the deployment's prefix: the service's name.
    pub group: &'static str,
    /// Its topics.
    pub topics: &'static [Topic],
    /// Bounds of a batch.
    pub limits: Limits,
}

/// One topic of a subscription.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    /// Logical name, without the deployment's prefix.
    pub name: &'static str,
    /// The event types that the handler is given.
    pub events: &'static [EventType],
    /// What happens to any other.
    pub unknown: Unknown,
    /// What happens to a record that cannot be processed.
    pub policy: Policy,
}

/// The full protobuf name of an event, as `ce_type` says it. It carries the major version (`orderly.order.v1`); a newer
/// minor version adds fields, which decoding ignores.
#[derive(Clone, Copy, Debug)]
pub struct EventType {
    package: &'static str,
    name: &'static str,
}

/// What to do with a record whose type is not among the subscription's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It is of no concern here: it takes no effect, and is in the inbox.
    Ignore,
    /// It is poison.
    Park,
}

/// What to do with a record that cannot be processed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// It becomes a dead letter, later records of its key wait behind it, all others flow.
    #[default]
    HoldKey,
    /// Its partition waits, and it is tried again and again.
    Block,
    /// It becomes a dead letter, and later records of its key flow: for effects whose order does not matter.
    Skip,
}

/// Bounds of one batch, which is one transaction.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Records.
    pub records: usize,
    /// Bytes of keys, headers and values; one record may be larger.
    pub bytes: usize,
}

impl Limits {
    /// 500 records, 8 MiB.
    pub const DEFAULT: Self = Self { records: 500, bytes: 8 << 20 };
}

impl Topic {
    /// A topic with the policy [`Policy::HoldKey`], whose other event types are of no concern.
    pub const fn new(name: &'static str, events: &'static [EventType]) -> Self {
        Self { name, events, unknown: Unknown::Ignore, policy: Policy::HoldKey }
    }
}

impl EventType {
    /// The type of this message.
    pub const fn of<M: Name>() -> Self {
        Self { package: M::PACKAGE, name: M::NAME }
    }

    fn is(&self, event_type: &str) -> bool {
        event_type.strip_prefix(self.package).and_then(|rest| rest.strip_prefix('.')) == Some(self.name)
    }
}

impl Subscription {
    /// The topic of this name. A record of another one cannot arrive.
    pub(crate) fn topic(&self, name: &str) -> Option<&'static Topic> {
        self.topics.iter().find(|topic| topic.name == name)
    }

    /// Whether the handler is to be given the record, by its type.
    pub(crate) fn takes(&self, message: &Message) -> Result<bool, Failure> {
        match self.topic(&message.topic) {
            Some(topic) if topic.knows(&message.event_type) => Ok(true),
            Some(topic) if topic.unknown == Unknown::Park => Err(Failure {
                kind: Kind::Poison,
                error: format!("event type {} is not known here", message.event_type),
            }),
            _ => Ok(false),
        }
    }
}

impl Topic {
    pub(crate) fn knows(&self, event_type: &str) -> bool {
        self.events.iter().any(|known| known.is(event_type))
    }
}

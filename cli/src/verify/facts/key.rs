//! What records are keyed by.

use std::sync::Arc;

use uuid::Uuid;

use super::Topic;

/// The key of a record: an order, or where the catalogue is told, a product.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::verify) enum Key {
    Order(Uuid),
    Product(Arc<str>),
}

impl Key {
    /// The key that these bytes are in this topic.
    pub(in crate::verify) fn parse(topic: Topic, key: &[u8]) -> Option<Self> {
        if topic == Topic::ProductEvents {
            let id = std::str::from_utf8(key).ok().filter(|id| !id.is_empty())?;
            return Some(Self::Product(id.into()));
        }
        Uuid::try_parse_ascii(key).ok().map(Self::Order)
    }

    /// What it is a key of.
    pub(in crate::verify) fn noun(&self) -> &'static str {
        match self {
            Self::Order(_) => "order",
            Self::Product(_) => "product",
        }
    }
}

impl std::fmt::Display for Key {
    /// As it stands in records.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Order(id) => id.fmt(f),
            Self::Product(id) => f.write_str(id),
        }
    }
}

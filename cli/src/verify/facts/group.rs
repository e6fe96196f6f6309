//! Consumer groups: one for each service that has a database, named as the service.

use super::Topic;
use crate::platform::Database;

/// A consumer group, and the service that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::verify) enum Group {
    Order,
    Inventory,
    Billing,
    Notification,
}

impl Group {
    /// Every group.
    pub(in crate::verify) const ALL: [Self; 4] =
        [Self::Order, Self::Inventory, Self::Billing, Self::Notification];

    /// What the group reads.
    pub(in crate::verify) fn topics(self) -> &'static [Topic] {
        match self {
            Self::Order => &[Topic::StockResults, Topic::PaymentResults, Topic::ProductEvents],
            Self::Inventory => &[Topic::StockRequests],
            Self::Billing => &[Topic::PaymentRequests],
            Self::Notification => &[Topic::NotificationEvents],
        }
    }
}

impl From<Database> for Group {
    fn from(database: Database) -> Self {
        match database {
            Database::Order => Self::Order,
            Database::Inventory => Self::Inventory,
            Database::Billing => Self::Billing,
            Database::Notification => Self::Notification,
        }
    }
}

impl std::fmt::Display for Group {
    /// Without prefix.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Order => "order",
            Self::Inventory => "inventory",
            Self::Billing => "billing",
            Self::Notification => "notification",
        })
    }
}

//! The services that own a database, and the names that go with one.

/// A service that owns a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Database {
    /// The order service's.
    Order,
    /// The inventory service's.
    Inventory,
    /// The billing service's.
    Billing,
    /// The notification service's.
    Notification,
}

impl Database {
    /// Every database, in the order of an order's way through them.
    pub const ALL: [Self; 4] = [Self::Order, Self::Inventory, Self::Billing, Self::Notification];

    /// The service that owns it: its binary, its consumer group, its outbox's name.
    #[must_use]
    pub fn service(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Inventory => "inventory",
            Self::Billing => "billing",
            Self::Notification => "notification",
        }
    }

    /// The database's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Order => "orderly_order",
            Self::Inventory => "orderly_inventory",
            Self::Billing => "orderly_billing",
            Self::Notification => "orderly_notification",
        }
    }

    /// The role that owns and migrates it.
    #[must_use]
    pub fn owner(self) -> String {
        format!("{}_owner", self.name())
    }

    /// The role that the service uses.
    #[must_use]
    pub fn app(self) -> String {
        format!("{}_app", self.name())
    }
}

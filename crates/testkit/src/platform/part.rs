//! The processes of a platform.

/// A process of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The order service.
    Order,
    /// Inventory.
    Inventory,
    /// Billing.
    Billing,
    /// Notification.
    Notification,
    /// The relay of all outboxes.
    Relay,
    /// The simulated payment provider.
    Provider,
    /// The simulated mail server.
    Mail,
}

impl Part {
    /// Every part, in the order in which they are started.
    pub const ALL: [Self; 7] = [
        Self::Provider,
        Self::Mail,
        Self::Order,
        Self::Inventory,
        Self::Billing,
        Self::Notification,
        Self::Relay,
    ];
    /// Those that have a database and workers.
    pub const SERVICES: [Self; 4] = [Self::Order, Self::Inventory, Self::Billing, Self::Notification];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Inventory => "inventory",
            Self::Billing => "billing",
            Self::Notification => "notification",
            Self::Relay => "relay",
            Self::Provider => "provider",
            Self::Mail => "mail",
        }
    }
}

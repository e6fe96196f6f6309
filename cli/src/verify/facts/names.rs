//! The names that rows and records are made of. One that is not here belongs to another release.

use crate::platform::Database;

/// A closed set of names as they stand in rows and records.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(in crate::verify) enum $name { $($variant),* }

        impl $name {
            /// Every value.
            pub(in crate::verify) const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in rows and records.
            pub(in crate::verify) fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// The value of that name.
            pub(in crate::verify) fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

named! {
    /// A topic, without prefix.
    Topic {
        OrderCreated = "order-created",
        PaymentRequests = "payment-requests",
        PaymentResults = "payment-results",
        OrderStatus = "order-status",
        NotificationEvents = "notification-events",
    }
}

named! {
    /// `ce_source`.
    Source {
        Order = "/orderly/order",
        Billing = "/orderly/billing",
    }
}

named! {
    /// `ce_type`.
    EventType {
        OrderCreated = "orderly.order.v1.OrderCreated",
        OrderPaid = "orderly.order.v1.OrderPaid",
        OrderConfirmed = "orderly.order.v1.OrderConfirmed",
        OrderRejected = "orderly.order.v1.OrderRejected",
        OrderCompensating = "orderly.order.v1.OrderCompensating",
        OrderCancelled = "orderly.order.v1.OrderCancelled",
        PaymentRequested = "orderly.billing.v1.PaymentRequested",
        RefundRequested = "orderly.billing.v1.RefundRequested",
        PaymentSucceeded = "orderly.billing.v1.PaymentSucceeded",
        PaymentFailed = "orderly.billing.v1.PaymentFailed",
        PaymentRefunded = "orderly.billing.v1.PaymentRefunded",
        NotificationRequested = "orderly.notification.v1.NotificationRequested",
    }
}

named! {
    /// `orders.status`.
    OrderStatus {
        Pending = "PENDING",
        StockReserved = "STOCK_RESERVED",
        Paid = "PAID",
        Confirmed = "CONFIRMED",
        Compensating = "COMPENSATING",
        Rejected = "REJECTED",
        Cancelled = "CANCELLED",
        NeedsAttention = "NEEDS_ATTENTION",
    }
}

named! {
    /// `order_events.event`.
    OrderEventKind {
        Placed = "OrderPlaced",
        PaymentSucceeded = "PaymentSucceeded",
        Confirmed = "OrderConfirmed",
        Rejected = "OrderRejected",
        CancellationRequested = "CancellationRequested",
        Cancelled = "OrderCancelled",
        LatePaymentFound = "LatePaymentFound",
    }
}

named! {
    /// `payments.status`.
    PaymentStatus {
        Pending = "PENDING",
        Succeeded = "SUCCEEDED",
        Failed = "FAILED",
        Refunding = "REFUNDING",
        Refunded = "REFUNDED",
    }
}

named! {
    /// `notifications.kind`.
    NotificationKind {
        PaymentReceipt = "PAYMENT_RECEIPT",
        OrderConfirmed = "ORDER_CONFIRMED",
        OrderRejected = "ORDER_REJECTED",
        OrderCancelled = "ORDER_CANCELLED",
    }
}

named! {
    /// `inbox.dead_letter.state`.
    LetterState {
        Parked = "parked",
        Held = "held",
        Replayed = "replayed",
        Discarded = "discarded",
    }
}

/// A consumer group, and the service that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::verify) enum Group {
    Order,
    Billing,
    Notification,
}

impl OrderStatus {
    /// Whether nothing more is to happen by itself.
    pub(in crate::verify) fn is_final(self) -> bool {
        matches!(self, Self::Confirmed | Self::Rejected | Self::Cancelled | Self::NeedsAttention)
    }
}

impl LetterState {
    /// Whether the record may still take effect.
    pub(in crate::verify) fn is_open(self) -> bool {
        matches!(self, Self::Parked | Self::Held)
    }
}

impl Group {
    /// Every group.
    pub(in crate::verify) const ALL: [Self; 3] = [Self::Order, Self::Billing, Self::Notification];

    /// What the group reads.
    pub(in crate::verify) fn topic(self) -> Topic {
        match self {
            Self::Order => Topic::PaymentResults,
            Self::Billing => Topic::PaymentRequests,
            Self::Notification => Topic::NotificationEvents,
        }
    }
}

impl From<Database> for Group {
    fn from(database: Database) -> Self {
        match database {
            Database::Order => Self::Order,
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
            Self::Billing => "billing",
            Self::Notification => "notification",
        })
    }
}

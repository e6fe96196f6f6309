//! The names that rows and records are made of. One that is not here belongs to another release.

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
        StockRequests = "stock-requests",
        StockResults = "stock-results",
        PaymentRequests = "payment-requests",
        PaymentResults = "payment-results",
        OrderStatus = "order-status",
        NotificationEvents = "notification-events",
        ProductEvents = "product-events",
    }
}

named! {
    /// `ce_source`.
    Source {
        Order = "/orderly/order",
        Inventory = "/orderly/inventory",
        Billing = "/orderly/billing",
    }
}

named! {
    /// `ce_type`.
    EventType {
        OrderCreated = "orderly.order.v1.OrderCreated",
        OrderStockReserved = "orderly.order.v1.OrderStockReserved",
        OrderPaid = "orderly.order.v1.OrderPaid",
        OrderConfirmed = "orderly.order.v1.OrderConfirmed",
        OrderShipped = "orderly.order.v1.OrderShipped",
        OrderCompensating = "orderly.order.v1.OrderCompensating",
        OrderRejected = "orderly.order.v1.OrderRejected",
        OrderCancelled = "orderly.order.v1.OrderCancelled",
        OrderNeedsAttention = "orderly.order.v1.OrderNeedsAttention",
        OrderProgressed = "orderly.order.v1.OrderProgressed",
        ReserveStock = "orderly.inventory.v1.ReserveStock",
        CommitStock = "orderly.inventory.v1.CommitStock",
        ReleaseStock = "orderly.inventory.v1.ReleaseStock",
        StockReserved = "orderly.inventory.v1.StockReserved",
        StockRejected = "orderly.inventory.v1.StockRejected",
        StockReleased = "orderly.inventory.v1.StockReleased",
        ShipmentScheduled = "orderly.inventory.v1.ShipmentScheduled",
        CommitFailed = "orderly.inventory.v1.CommitFailed",
        ProductUpserted = "orderly.inventory.v1.ProductUpserted",
        PaymentRequested = "orderly.billing.v1.PaymentRequested",
        RefundRequested = "orderly.billing.v1.RefundRequested",
        PaymentSucceeded = "orderly.billing.v1.PaymentSucceeded",
        PaymentFailed = "orderly.billing.v1.PaymentFailed",
        PaymentRefunded = "orderly.billing.v1.PaymentRefunded",
        NotificationRequested = "orderly.notification.v1.NotificationRequested",
    }
}

named! {
    /// `orders.status`, and how an order will end in `orders.outcome`.
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
    /// `orders.stock`: what the order knows about its stock.
    StockLeg {
        NotWanted = "NOT_WANTED",
        Requested = "REQUESTED",
        Reserved = "RESERVED",
        Shipped = "SHIPPED",
        Releasing = "RELEASING",
        Free = "FREE",
    }
}

named! {
    /// `orders.payment`: what the order knows about its payment.
    PaymentLeg {
        NotWanted = "NOT_WANTED",
        Requested = "REQUESTED",
        Taken = "TAKEN",
        Refunding = "REFUNDING",
        Settled = "SETTLED",
    }
}

named! {
    /// `orders.status_reason` and `orders.attention`.
    Reason {
        PaymentDeclined = "PAYMENT_DECLINED",
        InsufficientFunds = "INSUFFICIENT_FUNDS",
        PaymentExpired = "PAYMENT_EXPIRED",
        CancelledByCustomer = "CANCELLED_BY_CUSTOMER",
        OutOfStock = "OUT_OF_STOCK",
        NotSold = "NOT_SOLD",
        StockExpired = "STOCK_EXPIRED",
        CancelledByOperator = "CANCELLED_BY_OPERATOR",
        CompensationOverdue = "COMPENSATION_OVERDUE",
        ShipmentOverdue = "SHIPMENT_OVERDUE",
        CommitFailed = "COMMIT_FAILED",
    }
}

named! {
    /// `order_events.event`.
    OrderEventKind {
        Placed = "OrderPlaced",
        StockReserved = "StockReserved",
        PaymentSucceeded = "PaymentSucceeded",
        Confirmed = "OrderConfirmed",
        ShipmentScheduled = "ShipmentScheduled",
        Rejected = "OrderRejected",
        CompensationStarted = "CompensationStarted",
        StockReleased = "StockReleased",
        PaymentRefunded = "PaymentRefunded",
        Cancelled = "OrderCancelled",
        LatePaymentFound = "LatePaymentFound",
        LateStockFound = "LateStockFound",
        RequestsRepeated = "RequestsRepeated",
        AttentionNeeded = "AttentionNeeded",
        Resolved = "OrderResolved",
        // What schema 1 called the start of a compensation.
        CancellationRequested = "CancellationRequested",
    }
}

named! {
    /// `reservations.state`.
    ReservationState {
        Reserved = "RESERVED",
        Rejected = "REJECTED",
        Released = "RELEASED",
        Committed = "COMMITTED",
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
        OrderShipped = "ORDER_SHIPPED",
        OrderRejected = "ORDER_REJECTED",
        OrderCancelled = "ORDER_CANCELLED",
        OrderRefunded = "ORDER_REFUNDED",
    }
}

named! {
    /// `notifications.status`.
    NotificationStatus {
        Pending = "PENDING",
        Delivered = "DELIVERED",
        GivenUp = "GIVEN_UP",
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

impl LetterState {
    /// Whether the record may still take effect.
    pub(in crate::verify) fn is_open(self) -> bool {
        matches!(self, Self::Parked | Self::Held)
    }
}

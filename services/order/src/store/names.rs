//! The names of the domain's states in the database.

use crate::domain::{Outcome, Payment, Reason, Status, Stock};

macro_rules! names {
    ($type:ident: $($variant:ident = $name:literal),+ $(,)?) => {
        impl $type {
            /// Its name in the database.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What has this name in the database.
            pub(crate) fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

names!(Status:
    Pending = "PENDING",
    StockReserved = "STOCK_RESERVED",
    Paid = "PAID",
    Confirmed = "CONFIRMED",
    Compensating = "COMPENSATING",
    Rejected = "REJECTED",
    Cancelled = "CANCELLED",
    NeedsAttention = "NEEDS_ATTENTION",
);

// As serde writes them into events.
names!(Reason:
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
);

names!(Stock:
    NotWanted = "NOT_WANTED",
    Requested = "REQUESTED",
    Reserved = "RESERVED",
    Shipped = "SHIPPED",
    Releasing = "RELEASING",
    Free = "FREE",
);

names!(Payment:
    NotWanted = "NOT_WANTED",
    Requested = "REQUESTED",
    Taken = "TAKEN",
    Refunding = "REFUNDING",
    Settled = "SETTLED",
);

// As serde writes them into events.
names!(Outcome:
    Rejected = "REJECTED",
    Cancelled = "CANCELLED",
);

//! What a payment is and what may happen to it. Pure: no I/O, no clock.
//!
//! [`Payment::decide`] answers a command with changes, [`Payment::evolve`] applies one. Every cell of status × command
//! is defined: a repeated command changes nothing, and money that turns out to have been taken where none was expected
//! is given back.

use std::str::FromStr;

use time::OffsetDateTime;
use uuid::Uuid;

/// ISO 4217's code for "no currency": a refund came first, so that no amount is known.
pub const NO_CURRENCY: &str = "XXX";

/// An amount in minor units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Money {
    /// ISO 4217, three capital letters.
    pub currency: String,
    /// Integer minor units.
    pub minor: i64,
}

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The provider has not answered the charge yet.
    Pending,
    /// The provider has the money.
    Succeeded,
    /// Refused for good; nothing was taken.
    Failed,
    /// To be given back; the provider has not confirmed it yet.
    Refunding,
    /// Nothing is left with us: given back, or never taken.
    Refunded,
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The provider refused the payment method.
    Declined,
    /// The customer's account does not cover the amount.
    InsufficientFunds,
    /// The request was taken after its deadline.
    Expired,
}

/// One payment; there is one for each order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Chosen by the order service; the idempotency key at the provider.
    pub payment_id: Uuid,
    /// The order it pays.
    pub order_id: Uuid,
    /// Who pays.
    pub customer_id: String,
    /// What is to be taken; 0 of [`NO_CURRENCY`] where a refund came before any request.
    pub amount: Money,
    /// Where it stands.
    pub status: Status,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Counts transitions from 1; the `ce_sequence` of what is announced.
    pub version: i32,
    /// Calls to the provider so far, counted when they are claimed.
    pub attempts: i32,
    /// The provider's reference of the charge; there is one exactly where money was taken.
    pub provider_reference: Option<String>,
    /// A refund waits for the outcome of the charge.
    pub refund_requested: bool,
    /// What was given back, in minor units.
    pub refunded_minor: i64,
    /// When it was first heard of.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

/// What someone wants of a payment, or what the provider has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Give back whatever was taken or will turn out to have been taken.
    RequestRefund,
    /// The provider took the amount.
    Charged {
        /// Its reference.
        reference: String,
    },
    /// Nothing was taken, and never will be.
    Refused(Failure),
    /// The provider gave the amount back.
    Refunded,
}

/// One thing that has happened to a payment. All but [`Change::RefundNoted`] count in its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The refund waits until the charge in doubt is known.
    RefundNoted,
    /// The money is there; announced.
    Succeeded {
        /// The provider's reference.
        reference: String,
    },
    /// Refused for good; announced.
    Failed(Failure),
    /// The refund is owed; nobody is told until it is done.
    Refunding,
    /// Nothing is left with us; announced.
    Refunded {
        /// What was given back.
        minor: i64,
    },
    /// Nothing was left with us before; announced again.
    RefundConfirmed {
        /// What had been given back.
        minor: i64,
    },
}

/// One line of the double-entry ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    /// `CHARGE` or `REFUND`.
    pub kind: &'static str,
    /// `PROVIDER_CLEARING` or `CUSTOMER_SALES`.
    pub account: &'static str,
    /// Signed; the postings of one entry sum to 0.
    pub minor: i64,
}

impl Payment {
    /// What follows from `command`, in order; nothing where it is a repeat.
    pub fn decide(&self, command: &Command) -> Vec<Change> {
        use Status::{Failed, Pending, Refunded, Refunding, Succeeded};
        let taken = self.provider_reference.is_some();
        match (self.status, command) {
            // No call was ever made or is on its way: nothing can turn out to have been taken.
            (Pending, Command::RequestRefund) if self.attempts == 0 => vec![Change::Refunded { minor: 0 }],
            (Pending, Command::RequestRefund) if !self.refund_requested => vec![Change::RefundNoted],
            (Pending | Refunding, Command::RequestRefund) => vec![],
            // Who asks again has not heard the answer.
            (Refunded, Command::RequestRefund) => {
                vec![Change::RefundConfirmed { minor: self.refunded_minor }]
            }
            (Succeeded, Command::RequestRefund) => vec![Change::Refunding],
            (Failed, Command::RequestRefund) => vec![Change::Refunded { minor: 0 }],

            (Pending, Command::Charged { reference }) => {
                let mut changes = vec![Change::Succeeded { reference: reference.clone() }];
                if self.refund_requested {
                    changes.push(Change::Refunding);
                }
                changes
            }
            // The same answer, told twice: a claim had outlived its lease.
            (_, Command::Charged { .. }) if taken => vec![],
            (Succeeded | Failed | Refunding | Refunded, Command::Charged { reference }) => {
                vec![Change::Succeeded { reference: reference.clone() }, Change::Refunding]
            }

            (Pending, Command::Refused(failure)) => {
                let mut changes = vec![Change::Failed(*failure)];
                if self.refund_requested {
                    changes.push(Change::Refunded { minor: 0 });
                }
                changes
            }
            (Succeeded | Failed | Refunding | Refunded, Command::Refused(_)) => vec![],

            (Refunding, Command::Refunded) => vec![Change::Refunded { minor: self.amount.minor }],
            (Pending | Succeeded | Failed | Refunded, Command::Refunded) => vec![],
        }
    }

    /// The payment after `change`.
    pub fn evolve(&mut self, change: &Change) {
        match change {
            Change::RefundNoted => {
                self.refund_requested = true;
                return;
            }
            Change::Succeeded { reference } => {
                self.status = Status::Succeeded;
                self.provider_reference = Some(reference.clone());
                self.failure = None;
            }
            Change::Failed(failure) => {
                self.status = Status::Failed;
                self.failure = Some(*failure);
            }
            Change::Refunding => {
                self.status = Status::Refunding;
                self.refund_requested = true;
            }
            Change::Refunded { minor } => {
                self.status = Status::Refunded;
                self.refund_requested = true;
                self.refunded_minor = *minor;
            }
            Change::RefundConfirmed { .. } => {}
        }
        self.version += 1;
    }

    /// What `change` books; money that never moved is not booked.
    pub fn postings(&self, change: &Change) -> Vec<Posting> {
        let (kind, minor) = match change {
            Change::Succeeded { .. } => ("CHARGE", self.amount.minor),
            Change::Refunded { minor } if *minor > 0 => ("REFUND", -minor),
            _ => return vec![],
        };
        vec![
            Posting { kind, account: "PROVIDER_CLEARING", minor },
            Posting { kind, account: "CUSTOMER_SALES", minor: -minor },
        ]
    }
}

/// Milliseconds until an unknown outcome is asked again, before jitter: 100 ms, doubling up to 5 s.
pub fn backoff_ms(attempts: i32) -> i32 {
    let doublings = attempts.saturating_sub(1).clamp(0, 6);
    (100 << doublings).min(5_000)
}

/// A text that is no status or failure.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a known {1}")]
pub struct UnknownName(String, &'static str);

impl Status {
    /// Every status.
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Succeeded, Self::Failed, Self::Refunding, Self::Refunded];

    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Refunding => "REFUNDING",
            Self::Refunded => "REFUNDED",
        }
    }
}

impl FromStr for Status {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == name)
            .ok_or_else(|| UnknownName(name.to_owned(), "payment status"))
    }
}

impl Failure {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Declined => "DECLINED",
            Self::InsufficientFunds => "INSUFFICIENT_FUNDS",
            Self::Expired => "EXPIRED",
        }
    }
}

impl FromStr for Failure {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        [Self::Declined, Self::InsufficientFunds, Self::Expired]
            .into_iter()
            .find(|failure| failure.as_str() == name)
            .ok_or_else(|| UnknownName(name.to_owned(), "payment failure"))
    }
}

#[cfg(test)]
mod tests;

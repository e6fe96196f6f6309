//! What is told to whom, and through which channel; pure, without I/O.
//!
//! The promise: each order and kind is told once the channel has taken it, the oldest of an order first. A crash between
//! a mail server's "250" and our commit makes the same e-mail go out again, with the same Message-ID: an e-mail can
//! repeat, and a reader's mail program may show it twice.

mod money;
mod text;

use std::{fmt, str::FromStr, time::Duration};

use lettre::Address;
use uuid::Uuid;

pub use money::Money;
pub use text::Text;

/// What happened to the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The payment was taken.
    PaymentReceipt,
    /// The order is accepted for good.
    OrderConfirmed,
    /// The order was refused; the reason says why.
    OrderRejected,
    /// The order was cancelled.
    OrderCancelled,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] =
        [Self::PaymentReceipt, Self::OrderConfirmed, Self::OrderRejected, Self::OrderCancelled];

    /// The name in the database, in logs and in the e-mail's `X-Orderly-Kind`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PaymentReceipt => "PAYMENT_RECEIPT",
            Self::OrderConfirmed => "ORDER_CONFIRMED",
            Self::OrderRejected => "ORDER_REJECTED",
            Self::OrderCancelled => "ORDER_CANCELLED",
        }
    }
}

impl FromStr for Kind {
    type Err = Invalid;

    fn from_str(name: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or(Invalid("kind is not a known one"))
    }
}

/// How a customer is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Channel {
    /// A line on the service's standard output, without contact data.
    #[default]
    Log,
    /// An e-mail to this address.
    Email(EmailAddress),
}

impl Channel {
    /// The channel of these columns.
    pub fn from_columns(name: &str, email_address: Option<&str>) -> Result<Self, Invalid> {
        match (name, email_address) {
            ("LOG", None) => Ok(Self::Log),
            ("EMAIL", Some(address)) => Ok(Self::Email(address.parse()?)),
            _ => Err(Invalid("channel and e-mail address do not fit together")),
        }
    }

    /// The name in the database.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Log => "LOG",
            Self::Email(_) => "EMAIL",
        }
    }

    /// The address, where the channel has one.
    pub fn email_address(&self) -> Option<&str> {
        match self {
            Self::Log => None,
            Self::Email(address) => Some(address.as_ref()),
        }
    }
}

/// An address that every mail server can be given: ASCII, at most 254 characters (RFC 5321, erratum 1690).
///
/// `Debug` shows its domain only, so that no log gives a person away.
#[derive(Clone, PartialEq, Eq)]
pub struct EmailAddress(Address);

impl EmailAddress {
    /// The longest forward path that SMTP carries, without its angle brackets.
    const MAX_LENGTH: usize = 254;

    /// The parsed address.
    pub const fn address(&self) -> &Address {
        &self.0
    }
}

impl FromStr for EmailAddress {
    type Err = Invalid;

    fn from_str(address: &str) -> Result<Self, Invalid> {
        if address.len() > Self::MAX_LENGTH || !address.is_ascii() {
            return Err(Invalid("must be at most 254 ASCII characters"));
        }
        let address =
            address.parse().map_err(|_| Invalid("must be an e-mail address such as name@example.com"))?;
        Ok(Self(address))
    }
}

impl AsRef<str> for EmailAddress {
    fn as_ref(&self) -> &str {
        self.0.as_ref()
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EmailAddress(…@{})", self.0.domain())
    }
}

/// A client's own id of a customer: 1 to 64 of `[A-Za-z0-9._-]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CustomerId(String);

impl FromStr for CustomerId {
    type Err = Invalid;

    fn from_str(id: &str) -> Result<Self, Invalid> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if (1..=64).contains(&id.len()) && id.bytes().all(allowed) {
            Ok(Self(id.to_owned()))
        } else {
            Err(Invalid("must be 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'"))
        }
    }
}

impl AsRef<str> for CustomerId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// That a customer is to be told something about an order.
#[derive(Clone, Debug)]
pub struct Request {
    /// The order it is about.
    pub order_id: Uuid,
    /// Whom to tell.
    pub customer_id: CustomerId,
    /// What happened.
    pub kind: Kind,
    /// What was paid or is returned.
    pub amount: Option<Money>,
    /// Why, in words for the customer; empty where there is nothing to explain.
    pub reason: String,
}

/// A value that breaks its rule; the text completes "`field` …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);

/// How long to wait after the given failed attempt (1 is the first): 200 ms, doubled each time, at most 30 s; at once
/// the most where the channel said that it will not take it. The caller adds jitter.
pub fn backoff(attempt: i32, permanent: bool) -> Duration {
    const FIRST: Duration = Duration::from_millis(200);
    const MOST: Duration = Duration::from_secs(30);
    if permanent {
        return MOST;
    }
    let doublings = attempt.saturating_sub(1).clamp(0, 16).unsigned_abs();
    MOST.min(FIRST * 2_u32.pow(doublings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_kind_reads_back() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert!("ORDER_SHIPPED".parse::<Kind>().is_err());
    }

    #[test]
    fn an_address_is_one_that_a_mail_server_can_be_given() {
        for good in ["a@example.com", "first.last+tag@sub.example.org", "x@localhost"] {
            assert!(good.parse::<EmailAddress>().is_ok(), "{good}");
        }
        let long = format!("{}@example.com", "a".repeat(250));
        for bad in [
            "",
            "@",
            "a@",
            "@b",
            "a b@c.d",
            "a@b\r\nBcc: c@d",
            "Ann <a@b.c>",
            "a@b,c@d",
            "ü@example.com",
            &long,
        ] {
            assert!(bad.parse::<EmailAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_does_not_show_in_debug_output() -> Result<(), Invalid> {
        let channel = Channel::Email("ann@example.com".parse()?);
        assert_eq!(format!("{channel:?}"), "Email(EmailAddress(…@example.com))");
        Ok(())
    }

    #[test]
    fn a_channel_and_its_columns_fit_together() -> Result<(), Invalid> {
        let email = Channel::Email("ann@example.com".parse()?);
        for channel in [Channel::Log, email] {
            assert_eq!(Channel::from_columns(channel.name(), channel.email_address()), Ok(channel));
        }
        assert!(Channel::from_columns("EMAIL", None).is_err());
        assert!(Channel::from_columns("LOG", Some("ann@example.com")).is_err());
        assert!(Channel::from_columns("WEBHOOK", None).is_err());
        Ok(())
    }

    #[test]
    fn a_customer_id_is_of_64_harmless_characters() {
        for good in ["c", "cust-1", "A.b_c-9", &"x".repeat(64)] {
            assert!(good.parse::<CustomerId>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "é", "a\n", &"x".repeat(65)] {
            assert!(bad.parse::<CustomerId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_wait_doubles_up_to_half_a_minute() {
        let waits: Vec<u128> = [1, 2, 3, 8, 9, 1000, i32::MAX].map(|n| backoff(n, false).as_millis()).into();
        assert_eq!(waits, [200, 400, 800, 25_600, 30_000, 30_000, 30_000]);
        assert_eq!(backoff(1, true), Duration::from_secs(30));
    }
}

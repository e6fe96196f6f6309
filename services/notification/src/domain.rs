//! What is told to whom, and through which channel; pure, without I/O.
//!
//! The promise: each order and kind is told once the channel has taken it, the oldest of an order first. A crash between
//! a mail server's "250" and our commit makes the same e-mail go out again, with the same Message-ID: an e-mail can
//! repeat, and a reader's mail program may show it twice.

mod money;
mod text;
mod webhook;

use std::{fmt, str::FromStr, time::Duration};

use lettre::Address;
use uuid::Uuid;

pub use money::Money;
pub use text::Text;
pub use webhook::{Webhook, WebhookSecret, WebhookUrl};

/// What happened to the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The payment was taken.
    PaymentReceipt,
    /// The order is accepted for good.
    OrderConfirmed,
    /// The order was refused; the reason says why.
    OrderRejected,
    /// The order was cancelled.
    OrderCancelled,
    /// The charge was given back.
    OrderRefunded,
    /// The carrier knows; the reason says how it travels.
    OrderShipped,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::PaymentReceipt,
        Self::OrderConfirmed,
        Self::OrderRejected,
        Self::OrderCancelled,
        Self::OrderRefunded,
        Self::OrderShipped,
    ];

    /// The name in the database, in logs and in the e-mail's `X-Orderly-Kind`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PaymentReceipt => "PAYMENT_RECEIPT",
            Self::OrderConfirmed => "ORDER_CONFIRMED",
            Self::OrderRejected => "ORDER_REJECTED",
            Self::OrderCancelled => "ORDER_CANCELLED",
            Self::OrderRefunded => "ORDER_REFUNDED",
            Self::OrderShipped => "ORDER_SHIPPED",
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
    /// A signed call to this endpoint.
    Webhook(Webhook),
}

/// A channel as the database has it: its name, and where it leads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Columns<'c> {
    /// `LOG`, `EMAIL` or `WEBHOOK`.
    pub channel: &'c str,
    /// Of `EMAIL` only.
    pub email_address: Option<&'c str>,
    /// Of `WEBHOOK` only.
    pub webhook_url: Option<&'c str>,
    /// Of `WEBHOOK` only.
    pub webhook_secret: Option<&'c str>,
}

impl Channel {
    /// The name of [`Channel::Log`] in the database.
    pub const LOG: &'static str = "LOG";
    /// The name of [`Channel::Email`] in the database.
    pub const EMAIL: &'static str = "EMAIL";
    /// The name of [`Channel::Webhook`] in the database.
    pub const WEBHOOK: &'static str = "WEBHOOK";

    /// The name of every channel in the database.
    pub const ALL: [&'static str; 3] = [Self::LOG, Self::EMAIL, Self::WEBHOOK];

    /// The channel of these columns.
    pub fn from_columns(columns: Columns<'_>) -> Result<Self, Invalid> {
        let Columns { channel, email_address, webhook_url, webhook_secret } = columns;
        match (channel, email_address, webhook_url, webhook_secret) {
            (Self::LOG, None, None, None) => Ok(Self::Log),
            (Self::EMAIL, Some(address), None, None) => Ok(Self::Email(address.parse()?)),
            (Self::WEBHOOK, None, Some(url), Some(secret)) => {
                Ok(Self::Webhook(Webhook { url: url.parse()?, secret: secret.parse()? }))
            }
            _ => Err(Invalid("channel and where it leads do not fit together")),
        }
    }

    /// Its columns.
    pub fn columns(&self) -> Columns<'_> {
        let none =
            Columns { channel: Self::LOG, email_address: None, webhook_url: None, webhook_secret: None };
        match self {
            Self::Log => none,
            Self::Email(address) => {
                Columns { channel: Self::EMAIL, email_address: Some(address.as_ref()), ..none }
            }
            Self::Webhook(Webhook { url, secret }) => Columns {
                channel: Self::WEBHOOK,
                webhook_url: Some(url.as_ref()),
                webhook_secret: Some(secret.expose()),
                ..none
            },
        }
    }

    /// Whether somebody else may not take what it is given, so that it can be given up.
    pub const fn can_refuse(&self) -> bool {
        matches!(self, Self::Email(_) | Self::Webhook(_))
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

/// Whether a notification is given up after this attempt: it was tried for at least `bound`, and not only once or twice
/// before and after an outage of ours.
pub fn is_given_up(attempts: i32, tried_for: Duration, bound: Duration) -> bool {
    const FEWEST_ATTEMPTS: i32 = 5;
    attempts >= FEWEST_ATTEMPTS && tried_for >= bound
}

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
        assert!("ORDER_LOST".parse::<Kind>().is_err());
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
        let webhook = Webhook { url: "http://example.com/".parse()?, secret: WebhookSecret::of([7; 32]) };
        let webhook = Channel::Webhook(webhook);
        for channel in [&Channel::Log, &email, &webhook] {
            assert_eq!(Channel::from_columns(channel.columns()).as_ref(), Ok(channel));
            for other in [Channel::LOG, Channel::EMAIL, Channel::WEBHOOK, "PIGEON"] {
                let columns = Columns { channel: other, ..channel.columns() };
                assert_eq!(Channel::from_columns(columns).is_ok(), columns == channel.columns(), "{other}");
            }
        }
        let without_secret = Columns { webhook_secret: None, ..webhook.columns() };
        assert!(Channel::from_columns(without_secret).is_err());
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

    #[test]
    fn it_is_given_up_when_it_was_tried_often_and_for_long() {
        let (long, short) = (Duration::from_secs(60), Duration::from_secs(59));
        assert!(is_given_up(5, long, long));
        assert!(!is_given_up(4, long, long));
        assert!(!is_given_up(5, short, long));
    }
}

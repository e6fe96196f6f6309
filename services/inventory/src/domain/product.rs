//! The catalogue's entries.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// ISO 4217's code for "no currency".
pub const NO_CURRENCY: &str = "XXX";
/// The longest id, in bytes.
const MAX_ID: usize = 64;
/// The longest name or reason, in characters.
const MAX_TEXT: usize = 200;

/// The client's id of a product: 1 to 64 of A-Z a-z 0-9 . _ -
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ProductId(String);

/// A text that is no [`ProductId`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 of A-Z a-z 0-9 . _ -")]
pub struct InvalidProductId;

/// An amount in minor units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Money {
    /// ISO 4217, three capital letters.
    pub currency: String,
    /// Integer minor units.
    pub minor: i64,
}

/// A product as it is sold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// The client's id.
    pub id: ProductId,
    /// What it is called.
    pub name: String,
    /// Of one unit.
    pub price: Money,
    /// No longer sold.
    pub archived: bool,
    /// Counts announcements from 1; the `ce_sequence` of each.
    pub version: i32,
    /// When it was added.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
}

/// What of a product is to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The new name.
    pub name: Option<String>,
    /// The new price.
    pub price: Option<Money>,
    /// Whether it is no longer sold.
    pub archived: Option<bool>,
}

impl Product {
    /// The product's next version.
    pub fn change(&mut self, change: Change) {
        if let Some(name) = change.name {
            self.name = name;
        }
        if let Some(price) = change.price {
            self.price = price;
        }
        if let Some(archived) = change.archived {
            self.archived = archived;
        }
        self.version += 1;
    }
}

impl Money {
    /// Whether the currency is one: three capital letters, and not [`NO_CURRENCY`].
    pub fn has_currency(&self) -> bool {
        self.currency.len() == 3
            && self.currency.bytes().all(|byte| byte.is_ascii_uppercase())
            && self.currency != NO_CURRENCY
    }
}

/// Whether a text can be a name or a reason: 1 to 200 characters, none of them a control character.
pub fn is_text(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.chars().count()) && !text.contains(char::is_control)
}

impl ProductId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProductId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for ProductId {
    type Err = InvalidProductId;

    fn from_str(id: &str) -> Result<Self, InvalidProductId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let valid = (1..=MAX_ID).contains(&id.len()) && id.bytes().all(allowed);
        if valid { Ok(Self(id.to_owned())) } else { Err(InvalidProductId) }
    }
}

impl TryFrom<String> for ProductId {
    type Error = InvalidProductId;

    fn try_from(id: String) -> Result<Self, InvalidProductId> {
        id.parse()
    }
}

//! The first decision: is this an order?

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The most items of one order.
pub const MAX_ITEMS: usize = 1_000;
/// The longest reference to a payment method, in bytes.
const MAX_TOKEN_BYTES: usize = 128;

/// An amount in the smallest unit of its currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// ISO 4217.
    pub currency: String,
    /// Integer minor units.
    pub minor: i64,
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The catalogue's id.
    pub product_id: String,
    /// At least 1.
    pub quantity: i32,
    /// Price of one.
    pub unit_price: Money,
}

/// What a caller wants to order, unchecked.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Who orders.
    pub customer_id: String,
    /// What.
    pub items: Vec<DraftItem>,
    /// Reference to a payment method at the provider.
    pub payment_token: PaymentToken,
}

/// One line of what a caller wants to order.
#[derive(Clone, Debug)]
pub struct DraftItem {
    /// The catalogue's id.
    pub product_id: String,
    /// How many.
    pub quantity: i32,
    /// The price of one that the customer has seen, if any.
    pub unit_price: Option<Money>,
}

/// What a charge is taken from. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PaymentToken(String);

/// An order that was accepted: the data of its first event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Who ordered.
    pub customer_id: String,
    /// What, 1 to [`MAX_ITEMS`] items of one currency.
    pub items: Vec<Item>,
    /// Sum over the items; positive.
    pub total: Money,
    /// The one payment of this order.
    pub payment_id: Uuid,
    /// SHA-256 of the payment token, in hexadecimal; the token itself is no part of the history.
    pub payment_token_hash: String,
    /// Whether stock is asked for first, and the payment once it is held.
    pub reserves_stock: bool,
}

/// A field that is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field in the request, such as `items[2].quantity`.
    pub field: String,
    /// What it must be.
    pub description: &'static str,
}

/// Every field of a draft that is wrong in itself, whatever the catalogue says.
pub fn check(draft: &Draft) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut wrong = |field: String, description| violations.push(Violation { field, description });
    if !is_external_id(&draft.customer_id) {
        wrong("customer_id".into(), "must be 1 to 64 of A-Z a-z 0-9 . _ -");
    }
    if !(1..=MAX_ITEMS).contains(&draft.items.len()) {
        wrong("items".into(), "must have 1 to 1000 items");
    }
    let token = draft.payment_token.expose();
    if token.len() > MAX_TOKEN_BYTES || !token.bytes().all(|b| b.is_ascii_graphic()) {
        wrong("payment_token".into(), "must be at most 128 visible ASCII characters");
    }
    for (index, item) in draft.items.iter().enumerate().take(MAX_ITEMS) {
        let at = |field: &str| format!("items[{index}].{field}");
        if !is_external_id(&item.product_id) {
            wrong(at("product_id"), "must be 1 to 64 of A-Z a-z 0-9 . _ -");
        }
        if item.quantity < 1 {
            wrong(at("quantity"), "must be at least 1");
        }
        let Some(price) = &item.unit_price else { continue };
        if price.minor < 1 {
            wrong(at("unit_price.minor"), "must be at least 1");
        }
        if !is_currency(&price.currency) {
            wrong(at("unit_price.currency"), "must be three capital letters (ISO 4217)");
        }
    }
    violations
}

/// Accepts priced items as an order, or names what of them does not fit together.
pub fn place(
    customer_id: String,
    items: Vec<Item>,
    payment_id: Uuid,
    payment_token_hash: String,
) -> Result<Placed, Violation> {
    let wrong = |field: String, description| Violation { field, description };
    let currency = items.first().map(|item| item.unit_price.currency.clone()).unwrap_or_default();
    let mut minor = Some(0_i64);
    for (index, item) in items.iter().enumerate() {
        if item.unit_price.currency != currency {
            return Err(wrong(
                format!("items[{index}].product_id"),
                "must be sold in the currency of the first item",
            ));
        }
        let line = item.unit_price.minor.checked_mul(i64::from(item.quantity));
        minor = minor.zip(line).and_then(|(sum, line)| sum.checked_add(line));
    }
    let Some(minor) = minor else {
        return Err(wrong("items".into(), "must add up to less than 2^63 minor units"));
    };
    let total = Money { currency, minor };
    Ok(Placed { customer_id, items, total, payment_id, payment_token_hash, reserves_stock: true })
}

impl PaymentToken {
    /// Wraps a token.
    pub fn new(token: String) -> Self {
        Self(token)
    }

    /// The token itself, for the database and for billing only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PaymentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PaymentToken(..)")
    }
}

/// Whether this is an id of a client's making: 1 to 64 of `[A-Za-z0-9._-]`.
pub fn is_external_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_currency(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase())
}

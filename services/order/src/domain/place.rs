//! The first decision: is this an order?

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
    pub items: Vec<Item>,
    /// Reference to a payment method at the provider.
    pub payment_token: String,
}

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
    /// SHA-256 of the payment token, in hexadecimal; the token itself is not kept.
    pub payment_token_hash: String,
}

/// A field that is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field in the request, such as `items[2].quantity`.
    pub field: String,
    /// What it must be.
    pub description: &'static str,
}

/// Accepts a draft or names every field that is wrong.
pub fn place(draft: Draft, payment_id: Uuid, payment_token_hash: String) -> Result<Placed, Vec<Violation>> {
    let mut violations = Vec::new();
    let mut wrong = |field: String, description| violations.push(Violation { field, description });
    if !is_external_id(&draft.customer_id) {
        wrong("customer_id".into(), "must be 1 to 64 of A-Z a-z 0-9 . _ -");
    }
    if !(1..=MAX_ITEMS).contains(&draft.items.len()) {
        wrong("items".into(), "must have 1 to 1000 items");
    }
    if draft.payment_token.len() > MAX_TOKEN_BYTES
        || !draft.payment_token.bytes().all(|b| b.is_ascii_graphic())
    {
        wrong("payment_token".into(), "must be at most 128 visible ASCII characters");
    }
    let currency = draft.items.first().map(|item| item.unit_price.currency.clone()).unwrap_or_default();
    let mut total = Some(0_i64);
    for (index, item) in draft.items.iter().enumerate().take(MAX_ITEMS) {
        let at = |field: &str| format!("items[{index}].{field}");
        if !is_external_id(&item.product_id) {
            wrong(at("product_id"), "must be 1 to 64 of A-Z a-z 0-9 . _ -");
        }
        if item.quantity < 1 {
            wrong(at("quantity"), "must be at least 1");
        }
        if item.unit_price.minor < 1 {
            wrong(at("unit_price.minor"), "must be at least 1");
        }
        if !is_currency(&item.unit_price.currency) {
            wrong(at("unit_price.currency"), "must be three capital letters (ISO 4217)");
        } else if item.unit_price.currency != currency {
            wrong(at("unit_price.currency"), "must be the currency of the first item");
        }
        let line = item.unit_price.minor.checked_mul(i64::from(item.quantity));
        total = total.zip(line).and_then(|(sum, line)| sum.checked_add(line));
    }
    if total.is_none() {
        wrong("items".into(), "must add up to less than 2^63 minor units");
    }
    match total {
        Some(minor) if violations.is_empty() => Ok(Placed {
            customer_id: draft.customer_id,
            items: draft.items,
            total: Money { currency, minor },
            payment_id,
            payment_token_hash,
        }),
        _ => Err(violations),
    }
}

/// Whether this is an id of a client's making: 1 to 64 of `[A-Za-z0-9._-]`.
pub fn is_external_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_currency(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase())
}

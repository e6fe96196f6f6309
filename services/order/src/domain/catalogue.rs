//! What an order may name, and at which price.

use std::collections::HashMap;

use super::{DraftItem, Item, Money};

/// What the order service knows of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Of one.
    pub price: Money,
    /// No longer sold.
    pub archived: bool,
}

/// Why a product cannot be ordered like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The catalogue has no such product.
    #[error("product {product_id} does not exist")]
    Unknown {
        /// Which one.
        product_id: String,
    },
    /// It is archived.
    #[error("product {product_id} is no longer sold")]
    Archived {
        /// Which one.
        product_id: String,
    },
    /// The customer has seen another price.
    #[error("product {product_id} costs {} {} in minor units; order again with this price", price.currency, price.minor)]
    PriceChanged {
        /// Which one.
        product_id: String,
        /// What it costs.
        price: Money,
    },
}

/// Every item with its price, or which one cannot be ordered.
pub fn price(items: Vec<DraftItem>, offers: &HashMap<String, Offer>) -> Result<Vec<Item>, Unavailable> {
    let priced = items.into_iter().map(|DraftItem { product_id, quantity, unit_price: seen }| {
        let Some(Offer { price, archived }) = offers.get(&product_id) else {
            return Err(Unavailable::Unknown { product_id });
        };
        if *archived {
            return Err(Unavailable::Archived { product_id });
        }
        if seen.is_some_and(|seen| seen != *price) {
            return Err(Unavailable::PriceChanged { product_id, price: price.clone() });
        }
        Ok(Item { product_id, quantity, unit_price: price.clone() })
    });
    priced.collect()
}

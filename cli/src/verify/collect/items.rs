//! What orders want and reservations hold, as JSON.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use serde::Deserialize;

use crate::verify::facts::Basket;

/// What is read of an item.
#[derive(Deserialize)]
struct Item<'j> {
    #[serde(borrow)]
    product_id: Cow<'j, str>,
    quantity: i64,
}

/// Reads items and keeps the id of each product once, however often it is wanted.
#[derive(Default)]
pub(super) struct Items {
    products: HashSet<Arc<str>>,
}

impl Items {
    pub(super) fn read(&mut self, json: &str) -> Result<Basket, serde_json::Error> {
        let items: Vec<Item<'_>> = serde_json::from_str(json)?;
        Ok(items.into_iter().map(|item| (self.product(&item.product_id), item.quantity)).collect())
    }

    fn product(&mut self, id: &str) -> Arc<str> {
        if let Some(known) = self.products.get(id) {
            return Arc::clone(known);
        }
        let new: Arc<str> = id.into();
        self.products.insert(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_summed_per_product() -> anyhow::Result<()> {
        let mut items = Items::default();
        let order = r#"[{"product_id": "b", "quantity": 2, "unit_price": {}}, {"product_id": "a", "quantity": 1},
                        {"quantity": 3, "product_id": "b"}]"#;
        let reservation = r#"[{"product_id": "a", "quantity": 1}, {"product_id": "b", "quantity": 5}]"#;
        assert_eq!(items.read(order)?, items.read(reservation)?);
        assert_eq!((items.read(order)?.to_string(), items.products.len()), ("1 a, 5 b".to_owned(), 2));
        Ok(())
    }
}

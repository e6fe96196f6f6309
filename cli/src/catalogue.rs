//! The demo catalogue: what `up` offers, and what `load` orders of it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use proto::{
    inventory::v1::{CreateProductRequest, Product, inventory_service_client::InventoryServiceClient},
    money::v1::Money,
};
use sqlx::PgPool;
use tonic::{Code, transport::Endpoint};

/// Of every price.
pub const CURRENCY: &str = "EUR";

/// Units that no load sells out.
const UNLIMITED: i64 = 1_000_000_000;

/// How long the order service may take to know every product.
const WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A product of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its id.
    pub id: &'static str,
    /// What customers read.
    pub name: &'static str,
    /// The price of one in minor units of [`CURRENCY`].
    pub minor: i64,
    /// Units on hand when it is created.
    pub units: i64,
}

/// Products of which there is practically no end.
pub const PLENTIFUL: [Offer; 5] = [
    Offer { id: "gaming-mouse", name: "Gaming mouse", minor: 4_999, units: UNLIMITED },
    Offer { id: "mechanical-keyboard", name: "Mechanical keyboard", minor: 12_900, units: UNLIMITED },
    Offer { id: "monitor-arm", name: "Monitor arm", minor: 8_950, units: UNLIMITED },
    Offer { id: "mouse-pad", name: "Mouse pad", minor: 1_250, units: UNLIMITED },
    Offer { id: "usb-c-cable", name: "USB-C cable", minor: 999, units: UNLIMITED },
];

/// What nobody can have.
pub const SOLD_OUT: Offer = Offer { id: "sold-out-lamp", name: "Desk lamp", minor: 3_900, units: 0 };

/// What sells out under a little load.
pub const SCARCE: Offer = Offer { id: "last-chance-headset", name: "Headset", minor: 7_900, units: 100 };

/// Every product.
#[must_use]
pub fn offers() -> Vec<Offer> {
    PLENTIFUL.into_iter().chain([SOLD_OUT, SCARCE]).collect()
}

impl Offer {
    /// The price of one.
    #[must_use]
    pub fn price(self) -> Money {
        Money { currency: CURRENCY.to_owned(), minor: self.minor }
    }
}

/// Creates the products that inventory does not have yet, and waits until the order service knows all of them. Products
/// that are there stay as they are.
///
/// # Errors
/// When inventory refuses one, or the order service does not know them all within 30 seconds.
pub async fn load(inventory: &str, orders: &PgPool, offers: &[Offer]) -> anyhow::Result<()> {
    match tokio::time::timeout(WITHIN, create_and_wait(inventory, orders, offers)).await {
        Ok(loaded) => loaded,
        Err(_) => bail!(
            "the order service did not know the catalogue's products within {} s; the logs of inventory, outbox-relay \
             and order say why",
            WITHIN.as_secs()
        ),
    }
}

async fn create_and_wait(inventory: &str, orders: &PgPool, offers: &[Offer]) -> anyhow::Result<()> {
    let mut client = InventoryServiceClient::new(Endpoint::from_shared(inventory.to_owned())?.connect_lazy());
    for offer in offers {
        let product = Product {
            product_id: offer.id.to_owned(),
            name: offer.name.to_owned(),
            price: Some(offer.price()),
            ..Product::default()
        };
        let request = CreateProductRequest { product: Some(product), initial_stock: offer.units };
        while let Err(status) = client.create_product(request.clone()).await {
            match status.code() {
                Code::AlreadyExists => break,
                Code::Unavailable => tokio::time::sleep(LOOK_EVERY).await,
                _ => bail!("inventory does not take {}: {}", offer.id, status.message()),
            }
        }
    }
    let ids: Vec<&str> = offers.iter().map(|offer| offer.id).collect();
    loop {
        let known: i64 = sqlx::query_scalar("select count(*) from products where product_id = any($1)")
            .bind(&ids)
            .fetch_one(orders)
            .await
            .context("the order database did not tell which products it knows")?;
        if usize::try_from(known) == Ok(ids.len()) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_product_is_offered_twice_or_for_nothing() {
        let offers = offers();
        let ids: std::collections::BTreeSet<_> = offers.iter().map(|offer| offer.id).collect();
        assert_eq!(ids.len(), offers.len());
        assert!(offers.iter().all(|offer| offer.minor > 0 && offer.units >= 0));
    }
}

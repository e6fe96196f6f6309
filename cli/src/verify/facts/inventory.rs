//! The catalogue, its stock, and what orders hold of it.

use std::{collections::BTreeMap, sync::Arc};

use uuid::Uuid;

use super::{Money, ReservationState};

/// What inventory knows of a product; rows of `products`, `stock` and `adjustments`.
#[derive(Clone, Debug, Default)]
pub(in crate::verify) struct Product {
    /// None where it is not in the catalogue.
    pub(in crate::verify) listed: Option<Listed>,
    /// Over all buckets, as are the next two.
    pub(in crate::verify) available: i64,
    pub(in crate::verify) reserved: i64,
    /// The least number in a bucket.
    pub(in crate::verify) least: i64,
    /// Sum of its adjustments.
    pub(in crate::verify) counted: i64,
}

/// A row of `products`. Moments are milliseconds since 1970.
#[derive(Clone, Debug)]
pub(in crate::verify) struct Listed {
    pub(in crate::verify) offer: Offer,
    pub(in crate::verify) created_ms: i64,
    /// When its last version was announced.
    pub(in crate::verify) announced_ms: i64,
}

/// What a version of a product says of its sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::verify) struct Offer {
    pub(in crate::verify) version: i32,
    pub(in crate::verify) price: Money,
    pub(in crate::verify) archived: bool,
}

/// A row of `reservations`.
#[derive(Clone, Debug)]
pub(in crate::verify) struct Reservation {
    pub(in crate::verify) order_id: Uuid,
    pub(in crate::verify) version: i32,
    pub(in crate::verify) state: ReservationState,
    pub(in crate::verify) items: Basket,
    pub(in crate::verify) shipment: Option<Uuid>,
    /// Of its last version, in milliseconds since 1970.
    pub(in crate::verify) updated_ms: i64,
}

impl std::fmt::Display for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { version, price, archived } = self;
        let archived = if *archived { ", archived" } else { "" };
        write!(f, "version {version} at {price}{archived}")
    }
}

/// Units of products, by product.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::verify) struct Basket(Box<[(Arc<str>, i64)]>);

impl Basket {
    pub(in crate::verify) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::verify) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, i64)> {
        self.0.iter().map(|(product, units)| (product, *units))
    }
}

impl FromIterator<(Arc<str>, i64)> for Basket {
    /// A product that comes twice is summed.
    fn from_iter<I: IntoIterator<Item = (Arc<str>, i64)>>(items: I) -> Self {
        let mut sums = BTreeMap::<Arc<str>, i64>::new();
        for (product, units) in items {
            let sum = sums.entry(product).or_default();
            *sum = sum.saturating_add(units);
        }
        Self(sums.into_iter().collect())
    }
}

impl std::fmt::Display for Basket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        for (position, (product, units)) in self.iter().enumerate() {
            let separator = if position > 0 { ", " } else { "" };
            write!(f, "{separator}{units} {product}")?;
        }
        Ok(())
    }
}

//! What a batch of commands moves in the stock, reckoned before anything is written.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Item, ProductId, Rejection};

/// Why nothing was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub rejection: Rejection,
    /// The first product that was missing.
    pub product_id: ProductId,
}

/// What became of an attempt to take every item of an order from one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// They are reserved.
    All,
    /// Nothing was taken, and no bucket would help.
    Refused(Refusal),
    /// Nothing was taken; other buckets have what is missing, or may have.
    Elsewhere,
}

/// Units that are moved in one bucket, out of it where negative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Whose.
    pub product_id: ProductId,
    /// In which of its buckets.
    pub bucket: i16,
    /// Of those that are free to be reserved.
    pub available: i64,
    /// Of those that are promised to orders.
    pub reserved: i64,
}

/// The product has no such bucket among those that are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bucket is not locked")]
pub struct NotLocked;

/// The buckets that a batch holds, and what it has seen of the others.
#[derive(Clone, Debug, Default)]
pub struct Ledger(HashMap<ProductId, Shelf>);

/// One product's buckets.
#[derive(Clone, Debug, Default)]
struct Shelf {
    sold: bool,
    locked: BTreeMap<i16, Locked>,
    /// What is available in the buckets that are not locked, together; none where nobody has looked.
    elsewhere: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Locked {
    available: i64,
    moved: (i64, i64),
}

impl Ledger {
    /// Enters a locked bucket of a product that is `sold` or not. Products without any are not sold.
    pub fn enter(&mut self, product_id: ProductId, sold: bool, bucket: i16, available: i64) {
        let shelf = self.0.entry(product_id).or_default();
        shelf.sold = sold;
        shelf.locked.insert(bucket, Locked { available, moved: (0, 0) });
    }

    /// Notes what a bucket holds that need not be locked; all of a product's are to be noted, or none.
    pub fn note(&mut self, product_id: &ProductId, bucket: i16, available: i64) {
        if let Some(shelf) = self.0.get_mut(product_id) {
            let here = if shelf.locked.contains_key(&bucket) { 0 } else { available };
            let elsewhere = shelf.elsewhere.get_or_insert(0);
            *elsewhere = elsewhere.saturating_add(here);
        }
    }

    /// Of which products a bucket may have too few for these orders together: what other buckets hold will matter.
    pub fn scarce<'i>(&self, orders: impl IntoIterator<Item = (i16, &'i [Item])>) -> Vec<ProductId> {
        let mut wanted: HashMap<(&ProductId, i16), i64> = HashMap::new();
        for (bucket, items) in orders {
            for item in items {
                let sum = wanted.entry((&item.product_id, bucket)).or_default();
                *sum = sum.saturating_add(item.quantity);
            }
        }
        let scarce = wanted.into_iter().filter(|((product_id, bucket), wanted)| {
            self.0.get(*product_id).is_some_and(|shelf| shelf.sold && shelf.available(*bucket) < *wanted)
        });
        let scarce: BTreeSet<&ProductId> = scarce.map(|((product_id, _), _)| product_id).collect();
        scarce.into_iter().cloned().collect()
    }

    /// Reserves every item in one bucket, or nothing.
    pub fn take(&mut self, bucket: i16, items: &[Item]) -> Taken {
        let refusal = items.iter().find_map(|item| {
            let rejection = match self.0.get(&item.product_id).filter(|shelf| shelf.sold) {
                None => Rejection::NotSold,
                Some(shelf) if shelf.has_at_most().is_some_and(|most| most < item.quantity) => {
                    Rejection::OutOfStock
                }
                Some(_) => return None,
            };
            Some(Refusal { rejection, product_id: item.product_id.clone() })
        });
        if let Some(refusal) = refusal {
            return Taken::Refused(refusal);
        }
        let has = |item: &Item| {
            self.0.get(&item.product_id).is_some_and(|shelf| shelf.available(bucket) >= item.quantity)
        };
        if items.iter().all(has) && self.settle(bucket, items, (-1, 1)).is_ok() {
            Taken::All
        } else {
            Taken::Elsewhere
        }
    }

    /// Moves the units of a reservation: `available` and `reserved` of each are added, or taken away where negative.
    pub fn settle(
        &mut self,
        bucket: i16,
        items: &[Item],
        (available, reserved): (i64, i64),
    ) -> Result<(), NotLocked> {
        for item in items {
            let shelf = self.0.get_mut(&item.product_id).ok_or(NotLocked)?;
            let place = shelf.locked.get_mut(&bucket).ok_or(NotLocked)?;
            place.available += available * item.quantity;
            place.moved.0 += available * item.quantity;
            place.moved.1 += reserved * item.quantity;
        }
        Ok(())
    }

    /// What is to be written, each bucket once.
    pub fn moves(self) -> Vec<Move> {
        let of_shelf = |(product_id, shelf): (ProductId, Shelf)| {
            let moved = shelf.locked.into_iter().filter(|(_, place)| place.moved != (0, 0));
            moved.map(move |(bucket, Locked { moved: (available, reserved), .. })| Move {
                product_id: product_id.clone(),
                bucket,
                available,
                reserved,
            })
        };
        self.0.into_iter().flat_map(of_shelf).collect()
    }
}

impl Shelf {
    fn available(&self, bucket: i16) -> i64 {
        self.locked.get(&bucket).map_or(0, |place| place.available)
    }

    /// In all buckets together, where all are known.
    fn has_at_most(&self) -> Option<i64> {
        let locked = self.locked.values().map(|place| place.available);
        self.elsewhere.map(|elsewhere| locked.fold(elsewhere, i64::saturating_add))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(product_id: &str) -> ProductId {
        product_id.parse().expect("a product id")
    }

    fn items(items: &[(&str, i64)]) -> Vec<Item> {
        items.iter().map(|(name, quantity)| Item { product_id: id(name), quantity: *quantity }).collect()
    }

    fn refused(rejection: Rejection, product_id: &str) -> Taken {
        Taken::Refused(Refusal { rejection, product_id: id(product_id) })
    }

    /// Mugs and jugs in bucket 4, and pens, which are archived.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for (name, sold, available) in [("mug", true, 5), ("jug", true, 1), ("pen", false, 9)] {
            ledger.enter(id(name), sold, 4, available);
        }
        ledger
    }

    #[test]
    fn an_order_takes_everything_or_nothing() {
        let mut ledger = ledger();
        assert_eq!(ledger.take(4, &items(&[("mug", 2), ("jug", 1)])), Taken::All);
        assert_eq!(ledger.take(4, &items(&[("mug", 2), ("jug", 1)])), Taken::Elsewhere);
        assert_eq!(ledger.take(4, &items(&[("mug", 3)])), Taken::All);
        let mut moves = ledger.moves();
        moves.sort_by(|a, b| a.product_id.cmp(&b.product_id));
        let moved =
            |name, units: i64| Move { product_id: id(name), bucket: 4, available: -units, reserved: units };
        assert_eq!(moves, [moved("jug", 1), moved("mug", 5)]);
    }

    #[test]
    fn the_first_product_that_no_bucket_has_is_named() {
        let mut ledger = ledger();
        assert_eq!(
            ledger.take(4, &items(&[("mug", 9), ("pen", 1), ("jar", 1)])),
            refused(Rejection::NotSold, "pen")
        );
        assert_eq!(ledger.take(4, &items(&[("jar", 1)])), refused(Rejection::NotSold, "jar"));
        for (name, bucket, available) in [("mug", 4, 5), ("mug", 7, 2), ("jug", 4, 1), ("jug", 7, 0)] {
            ledger.note(&id(name), bucket, available);
        }
        assert_eq!(
            ledger.take(4, &items(&[("mug", 7), ("jug", 2), ("pen", 1)])),
            refused(Rejection::OutOfStock, "jug")
        );
        assert_eq!(ledger.take(4, &items(&[("mug", 8)])), refused(Rejection::OutOfStock, "mug"));
        assert_eq!(ledger.take(4, &items(&[("mug", 7)])), Taken::Elsewhere);
        assert!(ledger.moves().is_empty());
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut ledger = ledger();
        assert_eq!(ledger.take(4, &items(&[("mug", 5)])), Taken::All);
        assert_eq!(ledger.settle(4, &items(&[("mug", 5)]), (1, -1)), Ok(()));
        assert_eq!(ledger.take(4, &items(&[("mug", 4)])), Taken::All);
        assert_eq!(ledger.settle(4, &items(&[("mug", 4)]), (0, -1)), Ok(()));
        let shipped = Move { product_id: id("mug"), bucket: 4, available: -4, reserved: 0 };
        assert_eq!(ledger.clone().moves(), [shipped]);
        assert_eq!(ledger.settle(5, &items(&[("mug", 1)]), (1, -1)), Err(NotLocked));
    }

    #[test]
    fn a_product_is_scarce_where_orders_together_want_more_than_their_bucket_has() {
        let ledger = ledger();
        let (two, three, others) =
            (items(&[("mug", 2)]), items(&[("mug", 3)]), items(&[("jar", 9), ("pen", 99)]));
        let scarce = |orders: &[&[Item]]| ledger.scarce(orders.iter().map(|items| (4, *items)));
        assert!(scarce(&[&two, &three, &others]).is_empty());
        assert_eq!(scarce(&[&two, &three, &others, &two]), [id("mug")]);
        assert_eq!(ledger.scarce([(5, two.as_slice())]), [id("mug")]);
    }
}

//! Taking units for an order, so that many workers can do it at once.
//!
//! Each partition has its own bucket of every product, and one worker, so that the statement of the common case waits for
//! nobody. Only where a bucket has too little for an order are units fetched from the others.

use sqlx::PgConnection;

use crate::{
    domain::{Item, ProductId, Refusal, Rejection, gather},
    store::stock::{self, Bucket, Sight},
};

/// Reserves every item in this bucket, or nothing.
///
/// Two transactions that have both taken from a product, and both need what the other's bucket still has, wait for each
/// other. PostgreSQL ends one of them as a deadlock, which the consumer runs again: nobody's fault, and rare, because it
/// happens only to a product's last units.
pub async fn take(
    connection: &mut PgConnection,
    bucket: i16,
    items: &[Item],
) -> sqlx::Result<Result<(), Refusal>> {
    // Again, because what was looked at may have changed: a product archived, a bucket waited for.
    for _ in 0..3 {
        if stock::take(connection, bucket, items).await? {
            return Ok(Ok(()));
        }
        let sights = stock::look(connection, bucket, items).await?;
        let refusal = match refusal(items, &sights) {
            Some(refusal) => Some(refusal),
            None => fetch(connection, bucket, items, &sights).await?,
        };
        if let Some(refusal) = refusal {
            return Ok(Err(refusal));
        }
    }
    Err(sqlx::Error::RowNotFound)
}

/// The first product that is not sold, or of which there are too few in all buckets together.
fn refusal(items: &[Item], sights: &[Sight]) -> Option<Refusal> {
    items.iter().zip(sights).find_map(|(item, sight)| {
        let rejection = match sight {
            Sight { sold: false, .. } => Rejection::NotSold,
            Sight { available, .. } if *available < item.quantity => Rejection::OutOfStock,
            Sight { .. } => return None,
        };
        Some(Refusal { rejection, product_id: item.product_id.clone() })
    })
}

/// Fetches what is missing from other buckets: those that nobody is at, and only if these are not enough, all.
async fn fetch(
    connection: &mut PgConnection,
    own: i16,
    items: &[Item],
    sights: &[Sight],
) -> sqlx::Result<Option<Refusal>> {
    let short = items.iter().zip(sights).filter(|(item, sight)| sight.own < item.quantity);
    let short: Vec<Item> = short.map(|(item, _)| item.clone()).collect();
    let mut missing = None;
    for wait in [false, true] {
        let others = stock::lock_buckets(connection, own, &short, wait).await?;
        match rearrange(own, &short, others) {
            Ok(buckets) => {
                stock::put(connection, &buckets).await?;
                return Ok(None);
            }
            Err(product_id) => missing = Some(Refusal { rejection: Rejection::OutOfStock, product_id }),
        }
    }
    Ok(missing)
}

/// What the locked buckets hold once the own one has enough of each item, or the first product of which there are too few.
fn rearrange(own: i16, short: &[Item], locked: Vec<Bucket>) -> Result<Vec<Bucket>, ProductId> {
    let mut buckets = Vec::with_capacity(locked.len());
    for item in short {
        let of_product = locked.iter().filter(|bucket| bucket.product_id == item.product_id);
        let (here, others): (Vec<&Bucket>, Vec<&Bucket>) =
            of_product.partition(|bucket| bucket.bucket == own);
        let available: Vec<i64> = others.iter().map(|bucket| bucket.available).collect();
        let gathered = here.first().and_then(|here| gather(item.quantity, here.available, &available));
        let (here, there) = gathered.ok_or_else(|| item.product_id.clone())?;
        buckets.push(Bucket { product_id: item.product_id.clone(), bucket: own, available: here });
        let moved = others.into_iter().zip(there);
        buckets.extend(moved.map(|(bucket, available)| Bucket { available, ..bucket.clone() }));
    }
    Ok(buckets)
}

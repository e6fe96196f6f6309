//! Where the time of confirmed orders goes: from event to event of their own histories.

use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use rand::RngExt as _;
use serde::Serialize;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{report::Latency, tally};

/// Orders whose histories are read; more say no more.
const SAMPLE: usize = 5_000;
/// How long the database may take to tell them.
const WITHIN: Duration = Duration::from_secs(30);

const HISTORIES: &str = "select min(occurred_at) filter (where event = 'OrderPlaced'),
        min(occurred_at) filter (where event = 'StockReserved'),
        min(occurred_at) filter (where event = 'OrderConfirmed'),
        min(occurred_at) filter (where event = 'ShipmentScheduled')
    from order_events where order_id = any($1) group by order_id";

/// The hops of confirmed orders, by the times of their events.
#[derive(Clone, Debug, Serialize)]
pub struct Hops {
    /// Orders that were looked at, chosen at random.
    pub orders: u64,
    /// From `OrderPlaced` to `StockReserved`.
    pub stock: Option<Latency>,
    /// From `StockReserved` to `PaymentSucceeded`, which is the moment of `OrderConfirmed` too.
    pub payment: Option<Latency>,
    /// From `OrderConfirmed` to `ShipmentScheduled`, for orders that had come so far.
    pub shipment: Option<Latency>,
}

/// Some of the orders that were confirmed, each with the same chance (Vitter's algorithm R).
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    seen: usize,
    orders: Vec<Uuid>,
}

impl Sample {
    pub(super) fn add(&mut self, order_id: Uuid) {
        self.seen += 1;
        if self.orders.len() < SAMPLE {
            self.orders.push(order_id);
        } else if let Some(place) = self.orders.get_mut(rand::rng().random_range(0..self.seen)) {
            *place = order_id;
        }
    }
}

/// Reads the histories of a sample.
pub(super) async fn measure(pool: &PgPool, sample: &Sample) -> anyhow::Result<Hops> {
    type Time = Option<OffsetDateTime>;
    let rows = sqlx::query_as::<_, (Time, Time, Time, Time)>(HISTORIES).bind(&sample.orders).fetch_all(pool);
    let rows = tokio::time::timeout(WITHIN, rows).await.context("it took too long")??;
    let (mut stock, mut payment, mut shipment) =
        (tally::histogram()?, tally::histogram()?, tally::histogram()?);
    for (placed, reserved, confirmed, shipped) in &rows {
        hop(&mut stock, *placed, *reserved);
        hop(&mut payment, *reserved, *confirmed);
        hop(&mut shipment, *confirmed, *shipped);
    }
    Ok(Hops {
        orders: rows.len() as u64,
        stock: Latency::of(&stock),
        payment: Latency::of(&payment),
        shipment: Latency::of(&shipment),
    })
}

/// Between two events of which both have happened.
fn hop(histogram: &mut Histogram<u64>, from: Option<OffsetDateTime>, to: Option<OffsetDateTime>) {
    if let (Some(from), Some(to)) = (from, to) {
        tally::record(histogram, (to - from).try_into().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_stays_small_and_takes_from_the_end_too() {
        let mut sample = Sample::default();
        let orders: Vec<Uuid> = (0..4 * SAMPLE as u128).map(Uuid::from_u128).collect();
        orders.iter().for_each(|order| sample.add(*order));
        assert_eq!(sample.orders.len(), SAMPLE);
        assert!(sample.orders.iter().any(|order| order.as_u128() >= 3 * SAMPLE as u128));
    }
}

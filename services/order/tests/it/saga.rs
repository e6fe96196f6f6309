//! The saga against everything that a distributed system does to it: random schedules over the real rules of order,
//! inventory and billing, without their databases.
//!
//! In each schedule some orders live in one [`World`]: their records wait in queues that keep the order of a key; each
//! record is handled twice, some come again days later, consumers start over, services and the provider are down for as
//! long as it pleases, deadlines pass at any moment, customers and operators do what they want. Then the world comes to
//! rest, and the books must match. `ORDERLY_SAGA_SEED` repeats a run from the seed that a failure names.

mod orderer;
mod payer;
mod queue;
mod stocker;
mod world;

use std::{collections::HashMap, env};

use order::domain::Request;

use world::World;

/// Enough to come by every corner of the table, in a few seconds.
const SCHEDULES: u64 = 3_000;

/// A rule that is broken on purpose, to see that it is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sabotage {
    /// All is well.
    #[default]
    None,
    /// The order service never asks for this.
    Forget(Request),
    /// The order service takes a success that it does not wait for as a repeat.
    IgnoreLateSuccesses,
    /// The same, and inventory reserves again what was released.
    ReserveReleased,
    /// Billing forgets that a refund was asked for while the provider had not answered.
    ForgetDoubt,
}

/// Runs schedules until one fails. Counts what has happened in them.
fn run(schedules: u64, sabotage: Sabotage) -> Result<HashMap<String, u64>, String> {
    let seed = env::var("ORDERLY_SAGA_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let first: u64 = seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let mut seen = HashMap::new();
    for seed in first..first + schedules {
        let mut world = World::new(seed, sabotage);
        world.live().map_err(|wrong| format!("ORDERLY_SAGA_SEED={seed}: {wrong}\n{}", world.told()))?;
        for what in world.seen() {
            *seen.entry(what).or_default() += 1;
        }
    }
    Ok(seen)
}

#[test]
fn every_order_ends_with_its_stock_and_its_money_matched_whatever_happens() {
    let seen = match run(SCHEDULES, Sabotage::None) {
        Ok(seen) => seen,
        Err(wrong) => panic!("{wrong}"),
    };
    // Else it would say little that nothing went wrong.
    for what in [
        "ends Confirmed",
        "ends Rejected OutOfStock",
        "ends Rejected NotSold",
        "ends Rejected StockExpired",
        "ends Rejected PaymentDeclined",
        "ends Rejected InsufficientFunds",
        "ends Rejected PaymentExpired",
        "ends Cancelled CancelledByCustomer",
        "ends Cancelled CancelledByOperator",
        "AttentionNeeded ShipmentOverdue",
        "AttentionNeeded CompensationOverdue",
        "AttentionNeeded CommitFailed",
        "OrderResolved Retry",
        "OrderResolved Cancel",
        "OrderResolved Close",
        "LatePaymentFound",
        "LateStockFound",
        "RequestsRepeated",
        "a shipment is called off",
        "a charge in doubt is refunded",
        "a refund finds nothing",
        "the provider charges what it had declined",
        "a record comes again days later",
        "a consumer starts over",
        "inventory loses a reservation",
    ] {
        assert!(seen.contains_key(what), "in {SCHEDULES} schedules never: {what}; only {seen:?}");
    }
}

#[test]
fn the_harness_notices_each_rule_that_is_broken() {
    for sabotage in [
        Sabotage::Forget(Request::ReserveStock),
        Sabotage::Forget(Request::CommitStock),
        Sabotage::Forget(Request::ReleaseStock),
        Sabotage::Forget(Request::TakePayment),
        Sabotage::Forget(Request::RefundPayment),
        Sabotage::IgnoreLateSuccesses,
        Sabotage::ReserveReleased,
        Sabotage::ForgetDoubt,
    ] {
        assert!(run(SCHEDULES, sabotage).is_err(), "{sabotage:?} goes unnoticed");
    }
}

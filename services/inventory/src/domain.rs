//! What a product, its stock and a reservation are, and the rules by which they change. Pure: no I/O, no clock.

mod ledger;
mod product;
mod reservation;
mod stock;
#[cfg(test)]
mod tests;

pub use ledger::{Ledger, Move, NotLocked, Refusal, Taken};
pub use product::{Change, InvalidProductId, Money, NO_CURRENCY, Product, ProductId, is_text};
pub use reservation::{
    Answer, Command, Item, Rejection, Reservation, Shipment, State, Step, Units, carrier, decide, merge,
    ship_time,
};
pub use stock::{BUCKETS, MAX_ON_HAND, NotCounted, Stock, bucket_of, count, gather, share};

//! What an order is, and the rules by which it changes. Pure: no database, no network, no clock.
//!
//! An order is the fold of its events: [`decide`] says which events a command causes in a state, [`evolve`] what a
//! state becomes by an event. Both are total; their table is tested cell by cell. The steps that an order takes, with
//! what undoes each, are [`STEPS`].

mod catalogue;
mod event;
mod order;
mod place;
mod saga;
#[cfg(test)]
mod tests;

pub use catalogue::{Offer, Unavailable, price};
pub use event::{Event, Outcome, Resolution, Shipment, UnknownEvent};
pub use order::{Order, Payment, Reason, Status, Stock, evolve};
pub use place::{
    Draft, DraftItem, Item, MAX_ITEMS, Money, PaymentToken, Placed, Violation, check, is_external_id, place,
};
pub use saga::{Command, Otherwise, REPEATS, Refused, Request, STEPS, Step, Wait, decide, requests};

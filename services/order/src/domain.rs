//! What an order is, and the rules by which it changes. Pure: no database, no network, no clock.
//!
//! An order is the fold of its events: [`decide`] says which events a command causes in a state, [`evolve`] what a
//! state becomes by an event. Both are total; their table is tested cell by cell.

mod order;
mod place;
#[cfg(test)]
mod tests;

pub use order::{Command, Event, NotCancellable, Order, Reason, Status, decide, evolve};
pub use place::{Draft, Item, MAX_ITEMS, Money, Placed, Violation, is_external_id, place};

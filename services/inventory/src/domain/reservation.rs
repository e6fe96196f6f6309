//! What an order holds of the stock, and what becomes of it.
//!
//! [`decide`] is total: every cell of state × command has its answer, so that commands may come in any order and as often
//! as they like. What was released never is reserved again.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::{Date, Duration, OffsetDateTime, Time, Weekday};
use uuid::Uuid;

use super::ProductId;

/// Who fetches shipments. Simulated: no such companies exist.
const CARRIERS: [&str; 4] = [
    "Simulated Parcel Line",
    "Simulated Northern Freight",
    "Simulated City Couriers",
    "Simulated Harbour Express",
];
/// When carriers come, in UTC.
const FETCHED_AT: (u8, u8, u8) = (9, 0, 0);

/// Units of one product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Which.
    pub product_id: ProductId,
    /// How many; at least 1.
    pub quantity: i64,
}

/// Where a reservation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its units are held.
    Reserved,
    /// Nothing is held, nor will be. Without a rejection it was to be shipped before it was ever reserved.
    Rejected(Option<Rejection>),
    /// Nothing is held any more, nor will be.
    Released,
    /// On its way to the carrier.
    Committed,
}

/// Why nothing is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// There are not as many.
    OutOfStock,
    /// There is no such product, or it is archived.
    NotSold,
    /// The request was taken after its deadline.
    Expired,
}

/// What the saga wants of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Hold everything or nothing.
    Reserve {
        /// Its deadline has passed.
        expired: bool,
    },
    /// Ship what is held.
    Commit,
    /// Give back whatever is held, or would have come to be.
    Release,
}

/// What follows from a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where the reservation stands then.
    pub to: State,
    /// What its units do.
    pub units: Units,
    /// What the saga is told.
    pub answer: Answer,
}

/// What the units of a reservation do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    /// They stay where they are.
    Stay,
    /// From available to reserved, if there are enough; else the reservation is rejected.
    Take,
    /// From reserved out of the stock.
    Ship,
    /// From reserved to available.
    PutBack,
    /// From a shipment to available.
    Return,
}

/// What the saga is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Everything is held.
    Reserved,
    /// Nothing is held, nor will be.
    Rejected(Rejection),
    /// Nothing is held any more, nor will be.
    Released,
    /// It is on its way.
    Shipped,
    /// There is nothing to ship.
    CommitFailed,
}

/// What one order holds, or has held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Whose it is; an order has one.
    pub order_id: Uuid,
    /// Counts answers from 1; the `ce_sequence` of each.
    pub version: i32,
    /// Where it stands.
    pub state: State,
    /// The first product that was missing.
    pub rejected_product: Option<ProductId>,
    /// Each product once; empty where nothing was ever asked for.
    pub items: Vec<Item>,
    /// The bucket that its units come from.
    pub bucket: i16,
    /// Made when it was committed, kept when that was called off.
    pub shipment: Option<Shipment>,
}

/// A simulated shipment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipment {
    /// UUIDv7.
    pub id: Uuid,
    /// Who fetches it.
    pub carrier: String,
    /// When.
    pub ship_time: OffsetDateTime,
}

/// What follows from a command to a reservation, or to an order that has none yet.
pub fn decide(state: Option<State>, command: Command) -> Step {
    use State::{Committed, Rejected, Released, Reserved};
    let step = |to, units, answer| Step { to, units, answer };
    match (state, command) {
        (None, Command::Reserve { expired: false }) => step(Reserved, Units::Take, Answer::Reserved),
        (None, Command::Reserve { expired: true }) => {
            step(Rejected(Some(Rejection::Expired)), Units::Stay, Answer::Rejected(Rejection::Expired))
        }
        (None, Command::Commit) => step(Rejected(None), Units::Stay, Answer::CommitFailed),
        (None, Command::Release) => step(Released, Units::Stay, Answer::Released),

        (Some(Reserved), Command::Reserve { .. }) => step(Reserved, Units::Stay, Answer::Reserved),
        (Some(Reserved), Command::Commit) => step(Committed, Units::Ship, Answer::Shipped),
        (Some(Reserved), Command::Release) => step(Released, Units::PutBack, Answer::Released),

        (Some(Rejected(why)), Command::Reserve { .. }) => {
            let rejection = why.unwrap_or(Rejection::OutOfStock);
            step(Rejected(why), Units::Stay, Answer::Rejected(rejection))
        }
        (Some(Rejected(why)), Command::Commit) => step(Rejected(why), Units::Stay, Answer::CommitFailed),
        (Some(Rejected(_)), Command::Release) => step(Released, Units::Stay, Answer::Released),

        (Some(Released), Command::Reserve { .. }) => {
            step(Released, Units::Stay, Answer::Rejected(Rejection::Expired))
        }
        (Some(Released), Command::Commit) => step(Released, Units::Stay, Answer::CommitFailed),
        (Some(Released), Command::Release) => step(Released, Units::Stay, Answer::Released),

        (Some(Committed), Command::Reserve { .. }) => step(Committed, Units::Stay, Answer::Reserved),
        (Some(Committed), Command::Commit) => step(Committed, Units::Stay, Answer::Shipped),
        (Some(Committed), Command::Release) => step(Released, Units::Return, Answer::Released),
    }
}

/// Each product once, in the order in which they were first named.
pub fn merge(items: impl IntoIterator<Item = Item>) -> Vec<Item> {
    let mut merged: Vec<Item> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for item in items {
        let place = *places.entry(item.product_id.clone()).or_insert(merged.len());
        match merged.get_mut(place) {
            // A record holds far fewer items than it takes for 32 bit numbers to add up to 64.
            Some(known) => known.quantity = known.quantity.saturating_add(item.quantity),
            None => merged.push(item),
        }
    }
    merged
}

/// Who fetches an order's shipment: the same one however often it is asked.
pub fn carrier(order_id: Uuid) -> &'static str {
    // The last byte of a UUIDv7 is random.
    CARRIERS[usize::from(order_id.as_bytes()[15]) % CARRIERS.len()]
}

/// When the carrier comes: at 09:00 UTC of the first working day after that of `now`.
pub fn ship_time(now: OffsetDateTime) -> OffsetDateTime {
    let today = now.to_offset(time::UtcOffset::UTC).date();
    let is_working_day = |day: &Date| !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
    let mut days = (1..=3).map(|days| today.saturating_add(Duration::days(days)));
    let day = days.find(is_working_day).unwrap_or(today);
    let (hour, minute, second) = FETCHED_AT;
    day.with_time(Time::from_hms(hour, minute, second).unwrap_or(Time::MIDNIGHT)).assume_utc()
}

/// A text that is no state or rejection.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a known {1}")]
pub struct UnknownName(String, &'static str);

impl State {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "RESERVED",
            Self::Rejected(_) => "REJECTED",
            Self::Released => "RELEASED",
            Self::Committed => "COMMITTED",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str, rejection: Option<Rejection>) -> Result<Self, UnknownName> {
        [Self::Reserved, Self::Rejected(rejection), Self::Released, Self::Committed]
            .into_iter()
            .find(|state| state.as_str() == name)
            .ok_or_else(|| UnknownName(name.to_owned(), "reservation state"))
    }

    /// Why nothing is held.
    pub fn rejection(self) -> Option<Rejection> {
        match self {
            Self::Rejected(rejection) => rejection,
            Self::Reserved | Self::Released | Self::Committed => None,
        }
    }
}

impl Rejection {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OutOfStock => "OUT_OF_STOCK",
            Self::NotSold => "NOT_SOLD",
            Self::Expired => "EXPIRED",
        }
    }
}

impl FromStr for Rejection {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        [Self::OutOfStock, Self::NotSold, Self::Expired]
            .into_iter()
            .find(|rejection| rejection.as_str() == name)
            .ok_or_else(|| UnknownName(name.to_owned(), "rejection"))
    }
}

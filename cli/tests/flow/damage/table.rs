//! Every damage, and what `orderly verify` must say to it.

mod effects;
mod orders;
mod records;
mod stock;

use std::path::PathBuf;

use cli::platform::Database;
use rdkafka::message::OwnedMessage;

use super::{Orders, copy::Damage};

/// What is done, and what it breaks.
pub struct Case<'a> {
    pub name: &'static str,
    pub damages: Vec<Damage<'a>>,
    /// Invariants in the order of the report, each with words that name what breaks it. None: the promise holds.
    pub breaks: Vec<(&'static str, String)>,
}

/// All of them; `run` is the record of the run of `orderly load`.
pub fn cases(orders: &Orders, run: PathBuf) -> Vec<Case<'_>> {
    [orders::cases(orders, run), records::cases(orders), effects::cases(orders), stock::cases(orders)]
        .into_iter()
        .flatten()
        .collect()
}

fn case<'a, const D: usize, const B: usize>(
    name: &'static str,
    damages: [Damage<'a>; D],
    breaks: [(&'static str, String); B],
) -> Case<'a> {
    Case { name, damages: damages.into(), breaks: breaks.into() }
}

fn sql<'a>(database: Database, sql: impl Into<String>) -> Damage<'a> {
    Damage::Sql(database, sql.into())
}

fn file<'a>(path: impl Into<PathBuf>, change: impl Fn(&mut String) + 'a) -> Damage<'a> {
    Damage::File(path.into(), Box::new(change))
}

fn order_status<'a>(change: impl Fn(&mut Vec<OwnedMessage>) + 'a) -> Damage<'a> {
    Damage::Topic(Box::new(change))
}

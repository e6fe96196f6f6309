//! SQL, as functions over a connection, so that they compose in one transaction.

pub mod products;
pub mod reservations;
pub mod stock;

use std::error::Error as StdError;

fn decode(error: impl StdError + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

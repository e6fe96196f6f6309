//! What happens to orders, as it is kept.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{Placed, Reason};

/// What has happened to an order; persisted, so a variant is never changed, only added. Where one must change, its
/// [`Event::SCHEMA`] grows and [`Event::read`] lifts what was written before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", content = "data")]
pub enum Event {
    /// It was accepted, and its stock asked for.
    OrderPlaced(Placed),
    /// Inventory holds everything; its payment was asked for.
    StockReserved {},
    /// The provider has the money.
    PaymentSucceeded {},
    /// It is stocked and paid; its shipment was asked for.
    OrderConfirmed {},
    /// The carrier knows.
    ShipmentScheduled(Shipment),
    /// It has failed, and nothing of it is left behind.
    OrderRejected {
        /// Why.
        reason: Reason,
    },
    /// It is being undone; what it holds was asked back.
    CompensationStarted {
        /// Why.
        reason: Reason,
        /// How it will end.
        outcome: Outcome,
        /// Billing has refused the payment for good: there is nothing to refund.
        #[serde(default)]
        payment_failed: bool,
    },
    /// Inventory holds nothing for it any more.
    StockReleased {},
    /// Nothing of its payment is left with us.
    PaymentRefunded {
        /// What was given back, in minor units; 0 where nothing had been taken.
        minor: i64,
    },
    /// It was cancelled, and nothing of it is left behind.
    OrderCancelled {
        /// Why.
        reason: Reason,
    },
    /// Money was taken for an order that does not want it; its refund was asked for.
    LatePaymentFound {},
    /// Stock was held for an order that does not want it; its release was asked for.
    LateStockFound {},
    /// What was not answered in time was asked for again.
    RequestsRepeated {},
    /// It waits for an operator.
    AttentionNeeded {
        /// What is missing.
        reason: Reason,
    },
    /// An operator has decided.
    OrderResolved {
        /// What.
        resolution: Resolution,
        /// Why, in the operator's words.
        reason: String,
    },
}

/// How an order that is being undone will end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// It has failed.
    Rejected,
    /// Somebody wanted it undone.
    Cancelled,
}

/// What an operator can do about an order that waits for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Resolution {
    /// Ask again for what was not answered.
    Retry,
    /// Undo everything.
    Cancel,
    /// Everything was put right by other means.
    Close,
}

/// How an order travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipment {
    /// UUIDv7.
    pub shipment_id: Uuid,
    /// Who carries it.
    pub carrier: String,
    /// When the carrier fetches it; from then on it cannot be called off.
    #[serde(with = "time::serde::rfc3339")]
    pub ship_time: OffsetDateTime,
}

/// A kept event that this program cannot read.
#[derive(Debug, thiserror::Error)]
#[error("event {name} of schema {schema} cannot be read")]
pub struct UnknownEvent {
    name: String,
    schema: i16,
    source: serde_json::Error,
}

impl Event {
    /// The schema in which events are written. 1 was before there was stock: an order's payment was asked for at once.
    pub const SCHEMA: i16 = 2;

    /// The name under which it is kept.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OrderPlaced(_) => "OrderPlaced",
            Self::StockReserved {} => "StockReserved",
            Self::PaymentSucceeded {} => "PaymentSucceeded",
            Self::OrderConfirmed {} => "OrderConfirmed",
            Self::ShipmentScheduled(_) => "ShipmentScheduled",
            Self::OrderRejected { .. } => "OrderRejected",
            Self::CompensationStarted { .. } => "CompensationStarted",
            Self::StockReleased {} => "StockReleased",
            Self::PaymentRefunded { .. } => "PaymentRefunded",
            Self::OrderCancelled { .. } => "OrderCancelled",
            Self::LatePaymentFound {} => "LatePaymentFound",
            Self::LateStockFound {} => "LateStockFound",
            Self::RequestsRepeated {} => "RequestsRepeated",
            Self::AttentionNeeded { .. } => "AttentionNeeded",
            Self::OrderResolved { .. } => "OrderResolved",
        }
    }

    /// What is kept beside the name.
    pub fn data(&self) -> Result<Value, serde_json::Error> {
        Ok(serde_json::to_value(self)?["data"].take())
    }

    /// Reads an event of any schema that was ever written.
    pub fn read(name: &str, schema: i16, data: Value) -> Result<Self, UnknownEvent> {
        let (lifted, data) = match schema {
            1 => lift_1(name, data),
            _ => (name, data),
        };
        serde_json::from_value(json!({ "event": lifted, "data": data })).map_err(|source| UnknownEvent {
            name: name.to_owned(),
            schema,
            source,
        })
    }

    /// What else is known about it, in words; empty where its name says all.
    pub fn detail(&self) -> String {
        match self {
            Self::ShipmentScheduled(shipment) => {
                // Formatting a UTC time of this era cannot fail.
                let at = shipment.ship_time.format(&Rfc3339).unwrap_or_default();
                format!("{} fetches it at {at}", shipment.carrier)
            }
            Self::OrderResolved { resolution, reason } => format!("{resolution:?}: {reason}"),
            Self::PaymentRefunded { minor: 0 } => "nothing had been charged".to_owned(),
            _ => String::new(),
        }
    }
}

/// From schema 1 to 2. Orders held no stock, and only customers' cancellations were undone.
fn lift_1(name: &str, mut data: Value) -> (&str, Value) {
    match name {
        "OrderPlaced" => {
            set(&mut data, "reserves_stock", json!(false));
            (name, data)
        }
        "CancellationRequested" => {
            set(&mut data, "outcome", json!(Outcome::Cancelled));
            ("CompensationStarted", data)
        }
        _ => (name, data),
    }
}

/// What is no object cannot be read anyway.
fn set(data: &mut Value, field: &str, value: Value) {
    if let Some(fields) = data.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}

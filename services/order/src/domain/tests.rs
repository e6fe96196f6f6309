//! The rules, cell by cell and over everything that can happen.

mod kept;
mod placing;
mod reachable;
mod table;

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::*;

const ORDER: Uuid = Uuid::from_u128(1);

/// Before the carrier comes.
const EARLY: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn item(product_id: &str, quantity: i32, currency: &str, minor: i64) -> Item {
    Item { product_id: product_id.into(), quantity, unit_price: Money { currency: currency.into(), minor } }
}

fn placed(reserves_stock: bool) -> Placed {
    let items = vec![item("gaming-mouse", 2, "EUR", 4_999)];
    let placed = place("cust-1".into(), items, Uuid::from_u128(2), "hash".into()).expect("a good order");
    Placed { reserves_stock, ..placed }
}

fn shipment() -> Shipment {
    let ship_time = EARLY + Duration::days(1);
    Shipment { shipment_id: Uuid::from_u128(3), carrier: "Simulated Parcel Line".into(), ship_time }
}

/// A new order; `reserves_stock` is false of those from before there was stock.
fn new_order(reserves_stock: bool) -> Order {
    evolve(ORDER, None, &Event::OrderPlaced(placed(reserves_stock)))
}

/// The state after events.
fn after(order: &Order, events: &[Event]) -> Order {
    events.iter().fold(order.clone(), |order, event| evolve(ORDER, Some(order), event))
}

/// The state after a command; what is refused changes nothing.
fn after_command(order: &Order, command: &Command) -> Order {
    decide(order, command.clone()).map_or_else(|_| order.clone(), |events| after(order, &events))
}

/// Every command, in words.
fn commands() -> Vec<(&'static str, Command)> {
    let resolve = |resolution| Command::Resolve { resolution, reason: "looked at it".into() };
    let late = EARLY + Duration::days(2);
    vec![
        ("the customer cancels", Command::Cancel { at: EARLY }),
        ("the customer cancels after the carrier has come", Command::Cancel { at: late }),
        ("stock is reserved", Command::StockReserved),
        ("stock is rejected", Command::StockRejected(Reason::OutOfStock)),
        ("stock is released", Command::StockReleased),
        ("a shipment is scheduled", Command::ShipmentScheduled(shipment())),
        ("there is nothing to ship", Command::CommitFailed),
        ("the payment succeeds", Command::PaymentSucceeded),
        ("the payment fails", Command::PaymentFailed(Reason::PaymentDeclined)),
        ("there was nothing to refund", Command::PaymentRefunded { minor: 0 }),
        ("the payment is refunded", Command::PaymentRefunded { minor: 9_998 }),
        ("the deadline passes", Command::DeadlinePassed),
        ("the operator retries", resolve(Resolution::Retry)),
        ("the operator cancels", resolve(Resolution::Cancel)),
        ("the operator closes", resolve(Resolution::Close)),
    ]
}

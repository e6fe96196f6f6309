//! Units that are gone, held by nobody, or held for somebody who does not want them.

use std::sync::Arc;

use uuid::Uuid;

use super::broken;
use crate::verify::facts::{Basket, Listed, Product, ReservationState};

const RULE: &str = "stock";

#[test]
fn the_books_of_a_product() {
    broken(
        |w| w.facts.products.get_mut(&w.product).expect("there").available -= 1,
        &[(RULE, "100 units were counted in; 98 available, 0 reserved, 1 shipped")],
    );
    broken(
        |w| {
            let product = w.facts.products.get_mut(&w.product).expect("there");
            (product.available, product.reserved) = (product.available - 1, 1);
        },
        &[(RULE, "has 1 units reserved, its reservations hold 0")],
    );
    broken(
        |w| w.facts.products.get_mut(&w.product).expect("there").least = -1,
        &[(RULE, "has a bucket with -1 units")],
    );
    broken(
        |w| {
            w.facts
                .products
                .insert("keyboard".into(), Product { available: 5, counted: 5, ..Product::default() });
        },
        &[(RULE, "product keyboard: is not in the catalogue")],
    );
    broken(
        |w| {
            let listed = Some(Listed { version: 1, created_ms: 1, announced_ms: 1 });
            w.facts.products.insert("keyboard".into(), Product { listed, ..Product::default() });
        },
        &[(
            "events-published",
            "product keyboard in product-events from /orderly/inventory sequence 1: missing",
        )],
    );
    broken(
        |w| {
            let product = w.facts.products.get_mut(&w.product).expect("there");
            product.listed = product.listed.map(|listed| Listed { version: 1, ..listed });
        },
        &[("events-published", "ProductUpserted that nothing has caused")],
    );
}

#[test]
fn reservations() {
    broken(
        |w| {
            let order = w.confirmed;
            w.facts.reservations.retain(|reservation| reservation.order_id != order);
        },
        &[
            ("events-published", "StockReserved that nothing has caused"),
            (RULE, "is CONFIRMED and has no reservation"),
            (RULE, "100 units were counted in; 99 available, 0 reserved, 0 shipped"),
        ],
    );
    broken(
        |w| w.reservation_of(w.rejected).state = ReservationState::Reserved,
        &[
            ("events-published", "sequence 2: missing orderly.inventory.v1.StockReserved"),
            (RULE, "is RESERVED, its order REJECTED: an orphan"),
            (RULE, "has 0 units reserved, its reservations hold 1"),
        ],
    );
    broken(
        |w| w.reservation_of(w.refunded).state = ReservationState::Committed,
        &[
            ("events-published", "StockReleased where orderly.inventory.v1.ShipmentScheduled or"),
            (RULE, "is COMMITTED, its order CANCELLED: an orphan"),
            (RULE, "0 reserved, 2 shipped"),
        ],
    );
    broken(
        |w| w.reservation_of(w.confirmed).shipment = Some(Uuid::nil()),
        &[(RULE, "has shipment 00000000-0000-0000-0000-000000000000, its order ")],
    );
    broken(
        |w| {
            let product = Arc::clone(&w.product);
            w.reservation_of(w.confirmed).items = std::iter::once((product, 2)).collect();
        },
        &[(RULE, "is COMMITTED with 2 mouse-"), (RULE, "1 mouse-"), (RULE, "0 reserved, 2 shipped")],
    );
    broken(
        |w| {
            let basket: Basket = std::iter::once(("keyboard".into(), 3)).collect();
            w.reservation_of(w.confirmed).items = basket;
        },
        &[(RULE, "product keyboard: has no stock, and reservations hold 0 and have shipped 3")],
    );
    broken(
        |w| {
            let order = w.cancelled;
            w.facts.order_events.retain(|event| event.order_id != order);
            w.facts.orders.remove(&order);
            w.facts.acked.orders.retain(|acked| acked.order_id != order);
            w.facts.notifications.retain(|told| told.order_id != order);
            w.facts
                .mails
                .retain(|id, _| w.facts.notifications.iter().any(|n| id.starts_with(&n.id.to_string())));
        },
        &[
            ("events-published", "OrderCreated that nothing has caused"),
            (RULE, "there is no such order, and it is RELEASED"),
        ],
    );
}

#[test]
fn what_was_called_off_before_it_was_asked_for_holds_nothing() {
    broken(|w| w.reservation_of(w.cancelled).items = Basket::default(), &[]);
    broken(
        |w| w.reservation_of(w.confirmed).items = Basket::default(),
        &[(RULE, "is COMMITTED with nothing"), (RULE, "0 reserved, 0 shipped")],
    );
}

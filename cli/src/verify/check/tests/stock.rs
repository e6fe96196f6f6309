//! Units that are gone, held by nobody, or held for somebody who does not want them.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    broken, judge,
    world::{View, World, event, offer},
};
use crate::verify::{
    facts::{
        Basket, DeadLetter, Group, Key, LetterState, Listed, Offer, OrderEventKind, OrderStatus, PaymentLeg,
        Product, ReservationState, StockLeg,
    },
    report::Outcome,
};

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
            let listed = Some(Listed { offer: offer(1), created_ms: 1, announced_ms: 1 });
            w.facts.products.insert("keyboard".into(), Product { listed, ..Product::default() });
        },
        &[
            (
                "events-published",
                "product keyboard in product-events from /orderly/inventory sequence 1: missing",
            ),
            (RULE, "product keyboard: the order service does not know it"),
        ],
    );
    broken(
        |w| {
            let product = w.facts.products.get_mut(&w.product).expect("there");
            product.listed.as_mut().expect("there").offer.version = 1;
        },
        &[
            ("events-published", "ProductUpserted that nothing has caused"),
            (RULE, "the order service knows version 2 at EUR 4999, inventory has version 1 at EUR 4999"),
        ],
    );
}

#[test]
fn customers_are_offered_what_inventory_sells() {
    let known = |w: &mut World, change: fn(&mut Offer)| {
        change(w.facts.offers.get_mut(&w.product).expect("there"));
    };
    broken(
        |w| known(w, |offer| offer.price.minor = 1),
        &[(RULE, "the order service knows version 2 at EUR 1, inventory has version 2 at EUR 4999")],
    );
    broken(
        |w| known(w, |offer| offer.archived = true),
        &[(RULE, "the order service knows version 2 at EUR 4999, archived, inventory has")],
    );
    broken(|w| w.facts.offers.clear(), &[(RULE, "the order service does not know it")]);
    broken(
        |w| drop(w.facts.offers.insert("keyboard".into(), offer(1))),
        &[(RULE, "product keyboard: the order service knows it, and inventory does not")],
    );
}

#[test]
fn what_a_dead_letter_tells_customers_are_not_offered_yet() {
    /// The order service has parked an announcement of the product, and knows only the version before.
    fn parked(w: &mut World, version: i64) -> &mut DeadLetter {
        let key = Key::Product(Arc::clone(&w.product));
        let announced = w.facts.log.records.iter().position(|at| at.key == key && at.sequence == version);
        w.facts.offers.get_mut(&w.product).expect("there").version = 1;
        let letter = w.letter(announced.expect("it was published"));
        (letter.group, letter.copied) = (Group::Order, false);
        letter
    }
    let discard = |letter: &mut DeadLetter| {
        letter.state = LetterState::Discarded;
        letter.audited.push("discarded".to_owned());
    };
    let note = "1 product is not what the order service knows: a dead letter tells of it";
    // The first holds back the second.
    for version in [1, 2] {
        let mut world = World::new();
        parked(&mut world, version);
        let stock = judge(&world.facts).into_iter().find(|rule| rule.name == RULE).expect("it is a rule");
        assert_eq!((stock.outcome, stock.notes), (Outcome::Ok, vec![note.to_owned()]));
    }
    let mut world = World::new();
    discard(parked(&mut world, 2));
    let stock = judge(&world.facts).into_iter().find(|rule| rule.name == RULE).expect("it is a rule");
    assert_eq!((stock.outcome, stock.notes), (Outcome::Ok, vec![note.to_owned()]));
    // The version after it took effect, or was to.
    broken(|w| discard(parked(w, 1)), &[(RULE, "the order service knows version 1")]);
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
            let shipment = w.reservation_of(w.confirmed).shipment;
            w.reservation_of(w.refunded).shipment = shipment;
        },
        &[(RULE, ", as order ")],
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

#[test]
fn an_order_may_go_well_without_stock_that_came_nevertheless() {
    use OrderEventKind::{Confirmed, LateStockFound, PaymentSucceeded, Placed, StockReleased};
    // From before there was stock.
    let view = View::of(OrderStatus::Confirmed, StockLeg::Free, PaymentLeg::Taken);
    let add = |w: &mut World, state| {
        let events = [Placed, PaymentSucceeded, Confirmed, LateStockFound, StockReleased].map(event).to_vec();
        w.add_order_without_stock(view, events, state);
    };
    let judge = |state| judge(&World::with(|w| add(w, state)).facts);
    let released = judge(ReservationState::Released);
    assert!(released.iter().all(|invariant| invariant.outcome == Outcome::Ok), "{released:#?}");
    let reserved = judge(ReservationState::Reserved);
    let stock = reserved.iter().find(|rule| rule.name == RULE).expect("it is a rule");
    assert!(stock.offenders[0].problem.contains("is RESERVED, its order CONFIRMED: an orphan"), "{stock:#?}");
}

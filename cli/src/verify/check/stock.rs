//! Units: what was counted in is there, held, or on its way to a customer, and only orders hold any.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

use crate::verify::{
    facts::{Facts, OrderStatus, Reservation, ReservationState, StockLeg},
    report::Invariant,
    saga::{self, Saga},
};

/// Units of a product by the state of the reservations that hold them.
#[derive(Default)]
struct Held {
    reserved: i128,
    committed: i128,
}

pub(super) fn check(facts: &Facts, invariant: &mut Invariant) {
    products(facts, invariant);
    let sagas = saga::all(&facts.order_events);
    let mut held: HashSet<Uuid> = HashSet::with_capacity(facts.reservations.len());
    for reservation in &facts.reservations {
        invariant.checked += 1;
        held.insert(reservation.order_id);
        let subject = format!("reservation of order {}", reservation.order_id);
        match sagas.get(&reservation.order_id) {
            None => invariant
                .offend(&subject, format_args!("there is no such order, and it is {}", reservation.state)),
            Some(saga) => against_order(reservation, saga, &subject, invariant),
        }
    }
    for (id, saga) in sagas.iter().filter(|(id, _)| !held.contains(*id)) {
        if saga.is_at_its_end() && !saga.closed && saga.stock != StockLeg::NotWanted {
            invariant.offend(
                format_args!("order {id}"),
                format_args!("is {} and has no reservation", saga.status),
            );
        }
    }
}

/// The books of every product.
fn products(facts: &Facts, invariant: &mut Invariant) {
    let mut units: BTreeMap<&Arc<str>, Held> = BTreeMap::new();
    for reservation in &facts.reservations {
        for (product, quantity) in reservation.items.iter() {
            let (held, quantity) = (units.entry(product).or_default(), i128::from(quantity));
            match reservation.state {
                ReservationState::Reserved => held.reserved += quantity,
                ReservationState::Committed => held.committed += quantity,
                ReservationState::Rejected | ReservationState::Released => {}
            }
        }
    }
    for (id, product) in &facts.products {
        invariant.checked += 1;
        let subject = format_args!("product {id}");
        let held = units.remove(id).unwrap_or_default();
        let [available, reserved, counted] =
            [product.available, product.reserved, product.counted].map(i128::from);
        let (holds, shipped) = (held.reserved, held.committed);
        invariant.expect(product.listed.is_some(), subject, || "is not in the catalogue".to_owned());
        invariant
            .expect(product.least >= 0, subject, || format!("has a bucket with {} units", product.least));
        invariant.expect(reserved == holds, subject, || {
            format!("has {reserved} units reserved, its reservations hold {holds}")
        });
        invariant.expect(counted == available + reserved + shipped, subject, || {
            format!("{counted} units were counted in; {available} available, {reserved} reserved, {shipped} shipped")
        });
    }
    for (id, held) in units.iter().filter(|(_, held)| held.reserved + held.committed > 0) {
        let (reserved, shipped) = (held.reserved, held.committed);
        let what = format_args!("has no stock, and reservations hold {reserved} and have shipped {shipped}");
        invariant.offend(format_args!("product {id}"), what);
    }
}

fn against_order(reservation: &Reservation, saga: &Saga<'_>, subject: &str, invariant: &mut Invariant) {
    let state = reservation.state;
    let holds = matches!(state, ReservationState::Reserved | ReservationState::Committed);
    // What was refused or called off before it was asked for is empty.
    if let Some(placed) = saga.placed.filter(|_| holds || !reservation.items.is_empty()) {
        invariant.expect(reservation.items == placed.items, subject, || {
            format!("is {state} with {}, its order wants {}", reservation.items, placed.items)
        });
    }
    invariant.expect(saga.stock != StockLeg::NotWanted, subject, || {
        format!("is {state}, and its order has never asked for stock")
    });
    // Not at rest, or in an operator's hands: nothing is promised yet, or any more.
    if !saga.is_at_its_end() || saga.closed {
        return;
    }
    if saga.status != OrderStatus::Confirmed {
        invariant.expect(!holds, subject, || format!("is {state}, its order {}: an orphan", saga.status));
    } else if saga.stock == StockLeg::Shipped {
        invariant.expect(state == ReservationState::Committed, subject, || {
            format!("is {state}, its order {}", saga.status)
        });
        invariant.expect(reservation.shipment == saga.shipment, subject, || {
            let name = |id: Option<Uuid>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
            format!("has shipment {}, its order {}", name(reservation.shipment), name(saga.shipment))
        });
    }
}

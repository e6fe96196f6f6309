//! Units: what was counted in is there, held, or on its way to a customer, and only orders hold any.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

use crate::verify::{
    facts::{
        DeadLetter, Facts, Group, Key, LetterState, OrderStatus, Reservation, ReservationState, StockLeg,
        Topic,
    },
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
    catalogue(facts, invariant);
    let sagas = saga::all(&facts.order_events);
    let mut held: HashSet<Uuid> = HashSet::with_capacity(facts.reservations.len());
    let mut shipments: HashMap<Uuid, Uuid> = HashMap::new();
    for reservation in &facts.reservations {
        invariant.checked += 1;
        held.insert(reservation.order_id);
        let subject = format!("reservation of order {}", reservation.order_id);
        if let Some(shipment) = reservation.shipment
            && let Some(other) = shipments.insert(shipment, reservation.order_id)
        {
            invariant.offend(&subject, format_args!("has shipment {shipment}, as order {other} has"));
        }
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

/// What customers are offered is what inventory sells.
fn catalogue(facts: &Facts, invariant: &mut Invariant) {
    let mut untold: HashMap<&Key, Vec<&DeadLetter>> = HashMap::new();
    for letter in facts.dead_letters.iter().filter(|letter| letter.group == Group::Order) {
        if let Some(key) = letter.about.as_ref().filter(|_| letter.state != LetterState::Replayed) {
            untold.entry(key).or_default().push(letter);
        }
    }
    let mut excused = 0;
    let ids: BTreeSet<&Arc<str>> = facts.products.keys().chain(facts.offers.keys()).collect();
    for id in ids {
        let (listed, known) =
            (facts.products.get(id).and_then(|product| product.listed.as_ref()), facts.offers.get(id));
        let problem = match (listed, known) {
            (Some(listed), Some(known)) if listed.offer != *known => {
                format!("the order service knows {known}, inventory has {}", listed.offer)
            }
            (Some(_), None) => "the order service does not know it".to_owned(),
            (None, Some(_)) => "the order service knows it, and inventory does not".to_owned(),
            _ => continue,
        };
        let key = Key::Product(Arc::clone(id));
        let letters = untold.get(&key).map(Vec::as_slice).unwrap_or_default();
        if listed.is_some_and(|listed| tell(facts, letters, &key, listed.offer.version)) {
            excused += 1;
        } else {
            invariant.offend(format_args!("product {id}"), problem);
        }
    }
    match excused {
        0 => {}
        1 => invariant.note("1 product is not what the order service knows: a dead letter tells of it"),
        n => invariant
            .note(format!("{n} products are not what the order service knows: dead letters tell of them")),
    }
}

/// Whether these dead letters hold back what is true of a product: one that is open does, with all that wait behind it;
/// one that was discarded does if it tells the last version.
fn tell(facts: &Facts, letters: &[&DeadLetter], key: &Key, version: i32) -> bool {
    let records = facts.log.of_key(Topic::ProductEvents, key);
    let is_last = |letter: &DeadLetter| {
        let at = (letter.partition, letter.offset, i64::from(version));
        records.iter().any(|record| (record.partition, record.offset, record.sequence) == at)
    };
    letters.iter().any(|letter| letter.state.is_open() || is_last(letter))
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
    if saga.status != OrderStatus::Confirmed || saga.stock == StockLeg::Free {
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

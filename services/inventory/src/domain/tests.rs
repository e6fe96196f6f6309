use std::collections::HashSet;

use time::macros::datetime;
use uuid::Uuid;

use super::*;

const OUT: State = State::Rejected(Some(Rejection::OutOfStock));
const NOT_SOLD: State = State::Rejected(Some(Rejection::NotSold));
const EXPIRED: State = State::Rejected(Some(Rejection::Expired));
const NEVER_RESERVED: State = State::Rejected(None);

/// Every state × command: where it leads, what the units do, what the saga is told.
#[test]
fn every_command_has_its_answer_in_every_state() {
    use State::{Committed, Released, Reserved};
    let (reserve, late) = (Command::Reserve { expired: false }, Command::Reserve { expired: true });
    let (commit, release) = (Command::Commit, Command::Release);
    let no = |rejection| Answer::Rejected(rejection);
    let table = [
        (None, reserve, Reserved, Units::Take, Answer::Reserved),
        (None, late, EXPIRED, Units::Stay, no(Rejection::Expired)),
        (None, commit, NEVER_RESERVED, Units::Stay, Answer::CommitFailed),
        (None, release, Released, Units::Stay, Answer::Released),
        (Some(Reserved), reserve, Reserved, Units::Stay, Answer::Reserved),
        (Some(Reserved), late, Reserved, Units::Stay, Answer::Reserved),
        (Some(Reserved), commit, Committed, Units::Ship, Answer::Shipped),
        (Some(Reserved), release, Released, Units::PutBack, Answer::Released),
        (Some(OUT), reserve, OUT, Units::Stay, no(Rejection::OutOfStock)),
        (Some(OUT), late, OUT, Units::Stay, no(Rejection::OutOfStock)),
        (Some(OUT), commit, OUT, Units::Stay, Answer::CommitFailed),
        (Some(OUT), release, Released, Units::Stay, Answer::Released),
        (Some(NOT_SOLD), reserve, NOT_SOLD, Units::Stay, no(Rejection::NotSold)),
        (Some(NOT_SOLD), late, NOT_SOLD, Units::Stay, no(Rejection::NotSold)),
        (Some(NOT_SOLD), commit, NOT_SOLD, Units::Stay, Answer::CommitFailed),
        (Some(NOT_SOLD), release, Released, Units::Stay, Answer::Released),
        (Some(EXPIRED), reserve, EXPIRED, Units::Stay, no(Rejection::Expired)),
        (Some(EXPIRED), late, EXPIRED, Units::Stay, no(Rejection::Expired)),
        (Some(EXPIRED), commit, EXPIRED, Units::Stay, Answer::CommitFailed),
        (Some(EXPIRED), release, Released, Units::Stay, Answer::Released),
        (Some(NEVER_RESERVED), reserve, NEVER_RESERVED, Units::Stay, no(Rejection::OutOfStock)),
        (Some(NEVER_RESERVED), late, NEVER_RESERVED, Units::Stay, no(Rejection::OutOfStock)),
        (Some(NEVER_RESERVED), commit, NEVER_RESERVED, Units::Stay, Answer::CommitFailed),
        (Some(NEVER_RESERVED), release, Released, Units::Stay, Answer::Released),
        (Some(Released), reserve, Released, Units::Stay, no(Rejection::Expired)),
        (Some(Released), late, Released, Units::Stay, no(Rejection::Expired)),
        (Some(Released), commit, Released, Units::Stay, Answer::CommitFailed),
        (Some(Released), release, Released, Units::Stay, Answer::Released),
        (Some(Committed), reserve, Committed, Units::Stay, Answer::Reserved),
        (Some(Committed), late, Committed, Units::Stay, Answer::Reserved),
        (Some(Committed), commit, Committed, Units::Stay, Answer::Shipped),
        (Some(Committed), release, Released, Units::Return, Answer::Released),
    ];
    for (state, command, to, units, answer) in table {
        assert_eq!(decide(state, command), Step { to, units, answer }, "{state:?} × {command:?}");
    }
    let cells: HashSet<String> = table.iter().map(|cell| format!("{:?}", (cell.0, cell.1))).collect();
    assert_eq!(cells.len(), 8 * 4, "a cell is missing, or there twice");
}

#[test]
fn names_are_those_of_the_database() {
    for state in [State::Reserved, OUT, NOT_SOLD, EXPIRED, NEVER_RESERVED, State::Released, State::Committed]
    {
        assert_eq!(State::parse(state.as_str(), state.rejection()).ok(), Some(state));
    }
    for rejection in [Rejection::OutOfStock, Rejection::NotSold, Rejection::Expired] {
        assert_eq!(rejection.as_str().parse::<Rejection>().ok(), Some(rejection));
    }
    assert!(State::parse("HELD", None).is_err());
    assert!("LATE".parse::<Rejection>().is_err());
}

#[test]
fn units_are_shared_out_evenly_and_none_is_lost() {
    assert_eq!(share(0, 3), [0, 0, 0]);
    assert_eq!(share(1, 3), [1, 0, 0]);
    assert_eq!(share(8, 3), [3, 3, 2]);
    for units in [1, 15, 16, 17, 1_000, MAX_ON_HAND] {
        let shares = share(units, BUCKETS as usize);
        assert_eq!((shares.len(), shares.iter().sum::<i64>()), (16, units));
        assert!(shares.iter().max().zip(shares.iter().min()).is_some_and(|(most, least)| most - least <= 1));
    }
}

#[test]
fn a_bucket_gets_what_it_needs_and_a_fair_share_of_the_rest() {
    assert_eq!(gather(5, 0, &[5]), Some((5, vec![0])));
    assert_eq!(gather(5, 0, &[65]), Some((35, vec![30])));
    assert_eq!(gather(3, 2, &[0, 4, 0]), Some((4, vec![1, 1, 0])));
    assert_eq!(gather(5, 5, &[]), Some((5, vec![])));
    assert_eq!(gather(5, 2, &[1, 1]), None);
    assert_eq!(gather(1, 0, &[]), None);
    for (needed, own, others) in [(7, 3, vec![1, 9, 4]), (1, 0, vec![1]), (10, 9, vec![0, 0, 0, 50])] {
        let (here, there) = gather(needed, own, &others).expect("enough");
        assert!(here >= needed);
        assert_eq!(here + there.iter().sum::<i64>(), own + others.iter().sum::<i64>());
        assert!(there.iter().all(|bucket| *bucket >= 0));
    }
}

#[test]
fn only_what_is_available_is_counted_out() {
    let stock = Stock { available: 3, reserved: 4 };
    assert_eq!(count(stock, 2), Ok(Stock { available: 5, reserved: 4 }));
    assert_eq!(count(stock, -3), Ok(Stock { available: 0, reserved: 4 }));
    for delta in [-4, i64::MIN] {
        assert_eq!(count(stock, delta), Err(NotCounted::Insufficient { available: 3 }));
    }
    assert_eq!(count(stock, MAX_ON_HAND - 7).map(Stock::on_hand), Ok(MAX_ON_HAND));
    for delta in [MAX_ON_HAND - 6, i64::MAX] {
        assert_eq!(count(stock, delta), Err(NotCounted::TooMany));
    }
}

#[test]
fn a_partition_has_one_bucket() {
    assert_eq!([0, 11, 15, 16, 17, -1].map(bucket_of), [0, 11, 15, 0, 1, 15]);
}

#[test]
fn the_carrier_comes_on_the_next_working_day_at_nine() {
    let monday = datetime!(2026-11-23 09:00 UTC);
    for now in [
        datetime!(2026-11-20 00:00 UTC),
        datetime!(2026-11-20 23:59:59 UTC),
        datetime!(2026-11-21 08:59 UTC),
        datetime!(2026-11-22 23:59 UTC),
        // Still Friday, in UTC.
        datetime!(2026-11-21 01:00 +2),
    ] {
        assert_eq!(ship_time(now), monday, "{now}");
    }
    assert_eq!(ship_time(datetime!(2026-11-23 08:00 UTC)), datetime!(2026-11-24 09:00 UTC));
    assert_eq!(ship_time(datetime!(2026-11-26 10:00 UTC)), datetime!(2026-11-27 09:00 UTC));
    assert_eq!(ship_time(datetime!(2026-12-31 10:00 UTC)), datetime!(2027-01-01 09:00 UTC));
}

#[test]
fn an_order_always_has_the_same_carrier_and_each_carrier_has_orders() {
    let orders = (0..64).map(Uuid::from_u128);
    let carriers: HashSet<&str> = orders.map(carrier).collect();
    assert_eq!(carriers.len(), 4);
    assert_eq!(carrier(Uuid::from_u128(7)), carrier(Uuid::from_u128(7)));
    assert!(carriers.iter().all(|name| name.starts_with("Simulated ")));
}

#[test]
fn an_order_that_names_a_product_twice_wants_the_sum() {
    let item = |id: &str, quantity| Item { product_id: id.parse().expect("an id"), quantity };
    let merged = merge([item("pen", 1), item("mug", 2), item("pen", 3)]);
    assert_eq!(merged, [item("pen", 4), item("mug", 2)]);
}

#[test]
fn ids_and_texts_have_their_bounds() {
    for id in ["a", "A-Z_0.9", &"p".repeat(64)] {
        assert_eq!(id.parse::<ProductId>().map(|id| id.to_string()), Ok(id.to_owned()));
    }
    for id in ["", "a b", "ä", "a\0", "a/b", &"p".repeat(65)] {
        assert_eq!(id.parse::<ProductId>(), Err(InvalidProductId), "{id:?}");
    }
    assert!(is_text("Täschchen für den Tee") && is_text(&"ü".repeat(200)));
    assert!(!is_text("") && !is_text(&"n".repeat(201)) && !is_text("a\nb") && !is_text("a\0"));
    let currency = |currency: &str| Money { currency: currency.to_owned(), minor: 1 }.has_currency();
    assert!(currency("EUR"));
    assert!(["XXX", "eur", "EU", "EURO", "E1R", "ÄUR"].into_iter().all(|code| !currency(code)));
}

#[test]
fn a_change_leaves_alone_what_it_does_not_name() {
    let product = Product {
        id: "mug".parse().expect("an id"),
        name: "Mug".to_owned(),
        price: Money { currency: "EUR".to_owned(), minor: 900 },
        archived: false,
        version: 4,
        created_at: datetime!(2026-11-20 00:00 UTC),
        updated_at: datetime!(2026-11-20 00:00 UTC),
    };
    let mut changed = product.clone();
    changed.change(Change { archived: Some(true), ..Change::default() });
    assert_eq!(changed, Product { archived: true, version: 5, ..product.clone() });
    changed.change(Change { name: Some("Cup".to_owned()), price: None, archived: Some(false) });
    assert_eq!(changed, Product { name: "Cup".to_owned(), version: 6, ..product });
}

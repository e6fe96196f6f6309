//! What is taken as an order, and at which price.

use std::collections::HashMap;

use super::*;

fn line(quantity: i32, price: Option<(&str, i64)>) -> DraftItem {
    let unit_price = price.map(|(currency, minor)| Money { currency: currency.into(), minor });
    DraftItem { product_id: "gaming-mouse".into(), quantity, unit_price }
}

fn draft(items: Vec<DraftItem>) -> Draft {
    Draft { customer_id: "cust-1".into(), items, payment_token: PaymentToken::new("tok_ok".into()) }
}

fn wrong(draft: &Draft) -> Vec<String> {
    check(draft).into_iter().map(|violation| violation.field).collect()
}

#[test]
fn a_draft_is_refused_with_every_wrong_field_named() {
    let good = || line(1, Some(("EUR", 1)));
    assert_eq!(wrong(&draft(vec![good(), line(1, None)])), Vec::<String>::new());
    assert_eq!(wrong(&draft(vec![])), ["items"]);
    assert_eq!(wrong(&draft(vec![good(); 1_001])), ["items"]);
    assert_eq!(
        wrong(&draft(vec![line(0, None), line(-1, None)])),
        ["items[0].quantity", "items[1].quantity"]
    );
    assert_eq!(
        wrong(&draft(vec![line(1, Some(("eur", 0)))])),
        ["items[0].unit_price.minor", "items[0].unit_price.currency"]
    );
    let long = "x".repeat(65);
    for id in ["", "with space", "ünicode", long.as_str()] {
        assert_eq!(wrong(&Draft { customer_id: id.into(), ..draft(vec![good()]) }), ["customer_id"]);
        let item = DraftItem { product_id: id.into(), ..good() };
        assert_eq!(wrong(&draft(vec![item])), ["items[0].product_id"]);
    }
    for token in ["t".repeat(129), "tok ok".into(), "tök".into()] {
        let payment_token = PaymentToken::new(token);
        assert_eq!(wrong(&Draft { payment_token, ..draft(vec![good()]) }), ["payment_token"]);
    }
}

fn offers(archived: bool) -> HashMap<String, Offer> {
    let price = Money { currency: "EUR".into(), minor: 4_999 };
    HashMap::from([("gaming-mouse".into(), Offer { price, archived })])
}

#[test]
fn the_catalogue_has_the_price_and_the_last_word() {
    let current = Money { currency: "EUR".into(), minor: 4_999 };
    let product_id = || "gaming-mouse".to_owned();
    for seen in [None, Some(("EUR", 4_999))] {
        let priced = price(vec![line(2, seen)], &offers(false)).expect("for sale");
        assert_eq!(priced, [item("gaming-mouse", 2, "EUR", 4_999)]);
    }
    for seen in [("EUR", 4_998), ("EUR", 5_000), ("USD", 4_999)] {
        let changed = Unavailable::PriceChanged { product_id: product_id(), price: current.clone() };
        assert_eq!(price(vec![line(2, Some(seen))], &offers(false)), Err(changed));
    }
    for seen in [None, Some(("EUR", 4_999)), Some(("EUR", 1))] {
        let archived = Unavailable::Archived { product_id: product_id() };
        assert_eq!(price(vec![line(2, seen)], &offers(true)), Err(archived));
        let unknown = Unavailable::Unknown { product_id: product_id() };
        assert_eq!(price(vec![line(2, seen)], &HashMap::new()), Err(unknown));
    }
}

#[test]
fn the_total_is_exact() {
    let place = |items| place("cust-1".into(), items, Uuid::nil(), String::new());
    let mouse = |quantity, minor| item("gaming-mouse", quantity, "EUR", minor);
    let placed = place(vec![mouse(3, 4_999), mouse(1_000, 1)]).expect("a good order");
    assert_eq!(placed.total, Money { currency: "EUR".into(), minor: 15_997 });
    assert!(placed.reserves_stock);
    let field = |items| place(items).expect_err("refused").field;
    assert_eq!(field(vec![mouse(i32::MAX, i64::MAX)]), "items");
    assert_eq!(field(vec![mouse(1, i64::MAX), mouse(1, 1)]), "items");
    assert_eq!(field(vec![mouse(1, 1), item("mug", 1, "USD", 1)]), "items[1].product_id");
}

#[test]
fn a_payment_token_is_never_shown() {
    assert_eq!(format!("{:?}", PaymentToken::new("tok_secret".into())), "PaymentToken(..)");
}

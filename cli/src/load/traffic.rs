//! What is ordered: random customers and a few products, the same ones for the same seed.

use proto::{
    money::v1::Money,
    order::v1::{CreateOrderRequest, OrderItem},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::Serialize;
use uuid::Uuid;

/// Product ids and their prices in minor units of [`CURRENCY`].
const PRODUCTS: [(&str, i64); 4] =
    [("gaming-mouse", 4999), ("mechanical-keyboard", 12_900), ("monitor-arm", 8950), ("usb-c-cable", 999)];
const CURRENCY: &str = "EUR";

/// How the payment of an order is meant to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TokenKind {
    Ok,
    Declined,
}

/// An order to be placed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draft {
    pub(super) request: CreateOrderRequest,
    pub(super) total_minor: i64,
    pub(super) currency: &'static str,
    pub(super) token_kind: TokenKind,
}

/// An endless stream of orders.
#[derive(Debug)]
pub(super) struct Traffic {
    random: StdRng,
    customers: u32,
    decline_ratio: f64,
}

impl Traffic {
    pub(super) fn new(seed: u64, customers: u32, decline_ratio: f64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), customers, decline_ratio }
    }

    /// The request id does not come from the seed: a second run must place orders of its own, not find the first's.
    pub(super) fn next(&mut self) -> Draft {
        let items: Vec<_> = (0..self.random.random_range(1..=3))
            .map(|_| {
                let (product_id, minor) = PRODUCTS[self.random.random_range(0..PRODUCTS.len())];
                OrderItem {
                    product_id: product_id.to_owned(),
                    quantity: self.random.random_range(1..=3),
                    unit_price: Some(Money { currency: CURRENCY.to_owned(), minor }),
                }
            })
            .collect();
        let price = |item: &OrderItem| item.unit_price.as_ref().map_or(0, |price| price.minor);
        let total_minor = items.iter().map(|item| price(item) * i64::from(item.quantity)).sum();
        let declined = self.random.random_bool(self.decline_ratio);
        let (token, token_kind) =
            if declined { ("tok_declined", TokenKind::Declined) } else { ("tok_ok", TokenKind::Ok) };
        let request = CreateOrderRequest {
            customer_id: format!("cust-{}", self.random.random_range(1..=self.customers)),
            items,
            payment_token: token.to_owned(),
            request_id: Uuid::new_v4().to_string(),
        };
        Draft { request, total_minor, currency: CURRENCY, token_kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafts(seed: u64, decline_ratio: f64) -> Vec<Draft> {
        let mut traffic = Traffic::new(seed, 100, decline_ratio);
        (0..200).map(|_| traffic.next()).collect()
    }

    #[test]
    fn repeats_everything_but_the_request_id_for_a_seed() {
        let (first, second) = (drafts(7, 0.1), drafts(7, 0.1));
        for (mut one, other) in first.into_iter().zip(second) {
            assert_ne!(one.request.request_id, other.request.request_id);
            one.request.request_id.clone_from(&other.request.request_id);
            assert_eq!(one, other);
        }
        assert_ne!(drafts(8, 0.1)[0].request.customer_id, drafts(7, 0.1)[0].request.customer_id);
    }

    #[test]
    fn totals_its_items_and_declines_as_asked() {
        for draft in drafts(1, 0.5) {
            let total: i64 = draft
                .request
                .items
                .iter()
                .flat_map(|item| item.unit_price.as_ref().map(|price| price.minor * i64::from(item.quantity)))
                .sum();
            assert_eq!(draft.total_minor, total);
            assert!((1..=3).contains(&draft.request.items.len()));
            assert_eq!(
                draft.token_kind == TokenKind::Declined,
                draft.request.payment_token == "tok_declined"
            );
        }
        assert!(drafts(1, 0.0).iter().all(|draft| draft.token_kind == TokenKind::Ok));
        assert!(drafts(1, 1.0).iter().all(|draft| draft.token_kind == TokenKind::Declined));
    }
}

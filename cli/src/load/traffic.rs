//! What is ordered, and what is cancelled again: random customers and products of the demo catalogue, the same ones for
//! the same seed.

use std::time::Duration;

use proto::order::v1::{CreateOrderRequest, OrderItem};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::Serialize;
use uuid::Uuid;

use crate::catalogue::{CURRENCY, Offer, PLENTIFUL, SOLD_OUT};

/// A customer who changes their mind does so within this time after the acknowledgement.
const CANCEL_WITHIN: Duration = Duration::from_millis(500);

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
    /// When it is cancelled, from its acknowledgement.
    pub(super) cancel_after: Option<Duration>,
}

/// Shares of all orders, 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ratios {
    pub(super) declined: f64,
    pub(super) out_of_stock: f64,
    pub(super) cancelled: f64,
}

/// An endless stream of orders.
#[derive(Debug)]
pub(super) struct Traffic {
    random: StdRng,
    customers: u32,
    ratios: Ratios,
}

impl Traffic {
    pub(super) fn new(seed: u64, customers: u32, ratios: Ratios) -> Self {
        Self { random: StdRng::seed_from_u64(seed), customers, ratios }
    }

    /// The request id does not come from the seed: a second run must place orders of its own, not find the first's.
    pub(super) fn next(&mut self) -> Draft {
        let offers: Vec<Offer> = if self.random.random_bool(self.ratios.out_of_stock) {
            vec![SOLD_OUT]
        } else {
            let count = self.random.random_range(1..=3);
            (0..count).map(|_| PLENTIFUL[self.random.random_range(0..PLENTIFUL.len())]).collect()
        };
        let items: Vec<OrderItem> = offers
            .into_iter()
            .map(|offer| OrderItem {
                product_id: offer.id.to_owned(),
                quantity: self.random.random_range(1..=3),
                unit_price: Some(offer.price()),
            })
            .collect();
        let price = |item: &OrderItem| item.unit_price.as_ref().map_or(0, |price| price.minor);
        let total_minor = items.iter().map(|item| price(item) * i64::from(item.quantity)).sum();
        let declined = self.random.random_bool(self.ratios.declined);
        let (token, token_kind) =
            if declined { ("tok_declined", TokenKind::Declined) } else { ("tok_ok", TokenKind::Ok) };
        let request = CreateOrderRequest {
            customer_id: format!("cust-{}", self.random.random_range(1..=self.customers)),
            items,
            payment_token: token.to_owned(),
            request_id: Uuid::new_v4().to_string(),
        };
        let cancelled = self.random.random_bool(self.ratios.cancelled);
        let cancel_after = cancelled.then(|| CANCEL_WITHIN.mul_f64(self.random.random_range(0.0..=1.0)));
        Draft { request, total_minor, currency: CURRENCY, token_kind, cancel_after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafts(seed: u64, declined: f64) -> Vec<Draft> {
        of(seed, Ratios { declined, out_of_stock: 0.1, cancelled: 0.1 })
    }

    fn of(seed: u64, ratios: Ratios) -> Vec<Draft> {
        let mut traffic = Traffic::new(seed, 100, ratios);
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

    #[test]
    fn orders_what_is_sold_out_and_cancels_only_as_asked() {
        let sold_out = |draft: &Draft| draft.request.items.iter().any(|item| item.product_id == SOLD_OUT.id);
        let never = of(1, Ratios::default());
        assert!(!never.iter().any(|draft| sold_out(draft) || draft.cancel_after.is_some()));
        let always = of(1, Ratios { out_of_stock: 1.0, cancelled: 1.0, ..Ratios::default() });
        assert!(always.iter().all(|draft| sold_out(draft) && draft.cancel_after <= Some(CANCEL_WITHIN)));
        assert!(always.iter().all(|draft| draft.cancel_after.is_some()));
    }
}

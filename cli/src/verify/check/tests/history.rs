//! Histories with a gap, events that do not fit, and rows that say something else.

use std::sync::Arc;

use super::{broken, world::World};
use crate::verify::facts::{Order, OrderEventKind, OrderStatus, PaymentLeg, Reason, StockLeg};

#[test]
fn a_row_says_what_its_events_say() {
    broken(
        |w| {
            let order = w.confirmed;
            w.facts.order_events.retain(|event| event.order_id != order || event.version != 2);
        },
        &[
            ("order-history", "version 2 is missing"),
            ("events-published", "OrderStockReserved that nothing has caused"),
        ],
    );
    let row = |w: &mut World, order, change: fn(&mut Order)| {
        change(w.facts.orders.get_mut(&order).expect("there"));
    };
    broken(
        |w| row(w, w.rejected, |order| order.reason = Some(Reason::PaymentExpired)),
        &[("order-history", "status_reason is PAYMENT_EXPIRED, its events say PAYMENT_DECLINED")],
    );
    broken(
        |w| row(w, w.confirmed, |order| order.version = 4),
        &[("order-history", "version is 4, its events say 5")],
    );
    broken(
        |w| row(w, w.confirmed, |order| order.status = OrderStatus::Rejected),
        &[("order-history", "status is REJECTED, its events say CONFIRMED")],
    );
    broken(
        |w| row(w, w.refunded, |order| order.stock = StockLeg::Releasing),
        &[("order-history", "stock is RELEASING, its events say FREE")],
    );
    broken(
        |w| row(w, w.refunded, |order| (order.payment, order.outcome) = (PaymentLeg::Refunding, None)),
        &[("order-history", "payment is REFUNDING, its events say SETTLED; outcome is none")],
    );
    broken(
        |w| row(w, w.confirmed, |order| order.shipment = None),
        &[("order-history", "shipment is none, its events say ")],
    );
    broken(
        |w| {
            let two = std::iter::once((Arc::clone(&w.product), 2)).collect();
            w.facts.orders.get_mut(&w.confirmed).expect("there").items = two;
        },
        &[("order-history", "items is 2 mouse-"), ("order-history", ", its events say 1 mouse-")],
    );
}

#[test]
fn an_order_ends_when_stock_and_money_have_answered() {
    // Both answers come after its end.
    broken(
        |w| {
            let order = w.refunded;
            let events = &mut w.facts.order_events;
            let at = events.iter().position(|event| event.order_id == order).expect("there");
            events[at + 6..at + 9].rotate_right(1);
            for (event, version) in events[at..at + 9].iter_mut().zip(1..) {
                event.version = version;
            }
        },
        &[
            (
                "order-history",
                "version 7 is OrderCancelled where it is COMPENSATING, its stock RELEASING, its payment REFUNDING",
            ),
            ("events-published", "OrderCancelled where"),
        ],
    );
    // Confirmed, although it was never paid.
    broken(
        |w| {
            let order = w.confirmed;
            let events = w.facts.order_events.iter_mut();
            let mut paid = events
                .filter(|event| event.order_id == order && event.kind == OrderEventKind::PaymentSucceeded);
            paid.next().expect("there").kind = OrderEventKind::RequestsRepeated;
        },
        &[
            ("order-history", "version 4 is OrderConfirmed where it is STOCK_RESERVED"),
            ("events-published", "OrderPaid where orderly.order.v1.OrderProgressed was to be"),
            ("sagas", "has asked again 0 times, its events say 1"),
        ],
    );
}

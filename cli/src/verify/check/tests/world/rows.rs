//! Rows of the world's databases, and the lines of its ledgers.

use std::{iter, sync::Arc};

use uuid::Uuid;

use super::World;
use crate::verify::facts::{
    Acked, AckedOrder, Basket, Listed, Money, Notification, NotificationKind, NotificationStatus, Offer,
    Order, OrderEvent, OrderEventKind, OrderStatus, Payment, PaymentLeg, PaymentStatus, Placed, Posting,
    Product, ProviderLines, Reason, Reservation, ReservationState, StockLeg, millis_of,
};

/// Units of the product that were counted in.
const COUNTED: i64 = 100;

/// A version of any product.
pub(in crate::verify) fn offer(version: i32) -> Offer {
    Offer { version, price: Money { currency: "EUR".to_owned(), minor: 4999 }, archived: false }
}

/// What a row of `orders` is to say.
#[derive(Clone, Copy)]
pub(in crate::verify) struct View {
    pub(in crate::verify) status: OrderStatus,
    pub(in crate::verify) stock: StockLeg,
    pub(in crate::verify) payment: PaymentLeg,
    pub(in crate::verify) reason: Option<Reason>,
    pub(in crate::verify) attention: Option<Reason>,
    pub(in crate::verify) shipment: Option<Uuid>,
}

impl View {
    pub(in crate::verify) fn of(status: OrderStatus, stock: StockLeg, payment: PaymentLeg) -> Self {
        Self { status, stock, payment, reason: None, attention: None, shipment: None }
    }

    pub(in crate::verify) fn because(self, reason: Reason) -> Self {
        Self { reason: Some(reason), ..self }
    }
}

impl World {
    pub(super) fn list_product(&mut self) {
        let offer = offer(2);
        self.facts.offers.insert(Arc::clone(&self.product), offer.clone());
        let listed = Some(Listed { offer, created_ms: 1, announced_ms: 2 });
        let product = Product { listed, available: COUNTED, counted: COUNTED, ..Product::default() };
        self.facts.products.insert(Arc::clone(&self.product), product);
    }

    pub(super) fn order(&mut self, id: Uuid, view: View, events: Vec<OrderEvent>) {
        let (customer_id, payment_id, request_id) = ("cust-1".to_owned(), Uuid::now_v7(), Uuid::new_v4());
        let total = Money { currency: "EUR".to_owned(), minor: 4999 };
        let placed = Placed {
            customer_id: customer_id.clone(),
            items: self.one(),
            total: total.clone(),
            payment_id,
            reserves_stock: true,
        };
        let count = i32::try_from(events.len()).expect("few");
        for (event, version) in events.into_iter().zip(1..) {
            let placed = (event.kind == OrderEventKind::Placed).then(|| Box::new(placed.clone()));
            self.facts.order_events.push(OrderEvent {
                order_id: id,
                version,
                occurred_ms: millis_of(id),
                placed,
                ..event
            });
        }
        self.facts.acked.orders.push(AckedOrder {
            run: "first".into(),
            order_id: id,
            customer_id: customer_id.clone(),
            request_id,
            total: total.clone(),
        });
        self.facts.acked = Acked { files: 1, ..std::mem::take(&mut self.facts.acked) };
        let View { status, stock, payment, reason, attention, shipment } = view;
        let ended = matches!(status, OrderStatus::Rejected | OrderStatus::Cancelled);
        let order = Order {
            customer_id,
            status,
            version: count,
            reason,
            attention,
            items: self.one(),
            total,
            payment_id,
            request_id: Some(request_id),
            stock,
            payment,
            outcome: ended.then_some(status),
            shipment,
            overdue_ms: None,
            attempts: 0,
        };
        self.facts.orders.insert(id, order);
    }

    /// What an order holds, and the product's books with it.
    pub(super) fn reservation(
        &mut self,
        order_id: Uuid,
        state: ReservationState,
        version: i32,
        shipment: Option<Uuid>,
    ) {
        let items = self.one();
        let product = self.facts.products.get_mut(&self.product).expect("it is listed");
        match state {
            ReservationState::Reserved => {
                product.available -= 1;
                product.reserved += 1;
            }
            ReservationState::Committed => product.available -= 1,
            ReservationState::Rejected | ReservationState::Released => {}
        }
        self.facts.reservations.push(Reservation {
            order_id,
            version,
            state,
            items,
            shipment,
            updated_ms: millis_of(order_id),
        });
    }

    pub(super) fn payment(&mut self, order_id: Uuid, status: PaymentStatus, version: i32, taken: bool) {
        let order = &self.facts.orders[&order_id];
        let amount = order.total.clone();
        let refunded = taken && status == PaymentStatus::Refunded;
        let reference = taken.then(|| format!("ch-{order_id}"));
        self.facts.payments.push(Payment {
            id: order.payment_id,
            order_id,
            customer_id: order.customer_id.clone(),
            amount: amount.clone(),
            status,
            failed: status == PaymentStatus::Failed,
            untried: false,
            version,
            reference: reference.clone(),
            refunded_minor: if refunded { amount.minor } else { 0 },
            updated_ms: millis_of(order_id),
        });
        let mut lines = ProviderLines::default();
        for refund in [false, true].into_iter().take(usize::from(taken) + usize::from(refunded)) {
            let (entry_id, sign) = (Uuid::now_v7(), if refund { -1 } else { 1 });
            for (account, sign) in [("PROVIDER_CLEARING", sign), ("CUSTOMER_SALES", -sign)] {
                let amount = Money { minor: sign * amount.minor, ..amount.clone() };
                let (payment_id, account) = (order.payment_id, account.to_owned());
                self.facts.postings.push(Posting { entry_id, payment_id, refund, account, amount });
            }
            if refund {
                lines.refunds.push(amount.clone());
            } else {
                lines.charges.extend(reference.clone().map(|reference| (amount.clone(), reference)));
            }
        }
        lines.declines = u32::from(status == PaymentStatus::Failed);
        self.facts.provider.insert(order.payment_id, lines);
    }

    /// What a customer was told; the last of it by e-mail.
    pub(in crate::verify) fn notifications(&mut self, order_id: Uuid, kinds: &[NotificationKind]) {
        for (kind, left) in kinds.iter().zip((0..kinds.len()).rev()) {
            let (id, customer_id) = (Uuid::now_v7(), self.facts.orders[&order_id].customer_id.clone());
            let email = left == 0;
            let status = NotificationStatus::Delivered;
            let kind = *kind;
            self.facts.notifications.push(Notification { id, order_id, customer_id, kind, email, status });
            if email {
                self.facts.mails.insert(format!("{id}@orderly"), 1);
            }
        }
    }

    /// What every order wants.
    fn one(&self) -> Basket {
        iter::once((Arc::clone(&self.product), 1)).collect()
    }
}

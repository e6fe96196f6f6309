//! The order service: one order, its history, and what it asks for.

use order::domain::{Command, Event, Item, Money, Order, Placed, Refused, Request, decide, evolve, requests};
use uuid::Uuid;

use super::Sabotage;

/// An order as its service has it.
#[derive(Clone, Debug)]
pub struct Kept {
    pub order: Order,
    pub events: Vec<Event>,
}

impl Kept {
    /// A new order of so many units at 1.00 EUR each, and what it asks for.
    pub fn place(number: u128, units: i64, reserves_stock: bool) -> (Self, Vec<Request>) {
        let price = Money { currency: "EUR".into(), minor: 100 };
        let quantity = i32::try_from(units).expect("a few");
        let placed = Event::OrderPlaced(Placed {
            customer_id: "cust-1".into(),
            items: vec![Item { product_id: "gaming-mouse".into(), quantity, unit_price: price }],
            total: Money { currency: "EUR".into(), minor: 100 * units },
            payment_id: Uuid::from_u128(number),
            payment_token_hash: String::new(),
            reserves_stock,
        });
        let order = evolve(Uuid::from_u128(number), None, &placed);
        let asked = requests(None, &placed, &order);
        (Self { order, events: vec![placed] }, asked)
    }

    /// Lets a command take effect. Returns what it asks for, or what is wrong about what it did.
    pub fn take(
        &mut self,
        command: Command,
        sabotage: Sabotage,
    ) -> Result<Result<Vec<Request>, Refused>, String> {
        let caused = match decide(&self.order, command.clone()) {
            Ok(caused) => caused,
            Err(refused) => return Ok(Err(refused)),
        };
        let is_late = |event: &Event| matches!(event, Event::LatePaymentFound {} | Event::LateStockFound {});
        let ignores = matches!(sabotage, Sabotage::IgnoreLateSuccesses | Sabotage::ReserveReleased);
        if ignores && caused.iter().any(is_late) {
            return Ok(Ok(vec![]));
        }
        let may_go_on = matches!(command, Command::Cancel { .. });
        if self.order.is_at_its_end() && !may_go_on && !caused.iter().all(is_late) {
            return Err(format!("after its end {command:?} causes {caused:?} in {:?}", self.order));
        }
        let mut asked = Vec::new();
        for event in caused {
            let after = evolve(self.order.id, Some(self.order.clone()), &event);
            asked.extend(requests(Some(&self.order), &event, &after));
            self.order = after;
            self.events.push(event);
        }
        asked.retain(|request| sabotage != Sabotage::Forget(*request));
        Ok(Ok(asked))
    }

    /// The order that its history makes, as it is read from the database.
    pub fn replayed(&self) -> Order {
        let mut order = None;
        for event in &self.events {
            let data = event.data().expect("serializes");
            let event = Event::read(event.name(), Event::SCHEMA, data).expect("reads back");
            order = Some(evolve(self.order.id, order, &event));
        }
        order.expect("a history has its first event")
    }
}

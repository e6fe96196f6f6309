//! What inventory and billing can say about an order, and what the order says to them.

use order::domain::Shipment;
use proto::{
    billing::v1::{PaymentFailed, PaymentFailure, PaymentRefunded, PaymentSucceeded},
    inventory::v1::{
        CommitFailed, ShipmentScheduled, StockRejected, StockRejection, StockReleased, StockReserved,
    },
    money::v1::Money,
};
use uuid::Uuid;

use crate::scene::Scene;

/// The other side of one order.
pub struct Answers {
    order_id: String,
    payment_id: String,
}

impl Answers {
    /// About an order and its payment.
    pub async fn to(scene: &Scene, order_id: Uuid) -> anyhow::Result<Self> {
        let sql = "select payment_id from orders where order_id = $1";
        let payment_id: Uuid = sqlx::query_scalar(sql).bind(order_id).fetch_one(&scene.pool).await?;
        Ok(Self::about(order_id, payment_id))
    }

    /// About whatever these are.
    pub fn about(order_id: Uuid, payment_id: impl ToString) -> Self {
        Self { order_id: order_id.to_string(), payment_id: payment_id.to_string() }
    }

    pub fn reserved(&self) -> StockReserved {
        StockReserved { order_id: self.order_id.clone() }
    }

    pub fn rejected(&self, rejection: StockRejection) -> StockRejected {
        let (order_id, product_id) = (self.order_id.clone(), "mouse-pad".to_owned());
        StockRejected { order_id, rejection: rejection.into(), product_id }
    }

    pub fn released(&self) -> StockReleased {
        StockReleased { order_id: self.order_id.clone() }
    }

    pub fn shipped(&self, shipment: &Shipment) -> ShipmentScheduled {
        let seconds = shipment.ship_time.unix_timestamp();
        ShipmentScheduled {
            order_id: self.order_id.clone(),
            shipment_id: shipment.shipment_id.to_string(),
            carrier: shipment.carrier.clone(),
            ship_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        }
    }

    pub fn commit_failed(&self) -> CommitFailed {
        CommitFailed { order_id: self.order_id.clone() }
    }

    pub fn succeeded(&self) -> PaymentSucceeded {
        let (order_id, payment_id) = (self.order_id.clone(), self.payment_id.clone());
        PaymentSucceeded { payment_id, order_id }
    }

    pub fn failed(&self, failure: PaymentFailure) -> PaymentFailed {
        let PaymentSucceeded { payment_id, order_id } = self.succeeded();
        PaymentFailed { payment_id, order_id, failure: failure.into() }
    }

    pub fn refunded(&self, minor: i64) -> PaymentRefunded {
        let PaymentSucceeded { payment_id, order_id } = self.succeeded();
        PaymentRefunded { payment_id, order_id, amount: Some(Money { currency: "EUR".into(), minor }) }
    }
}

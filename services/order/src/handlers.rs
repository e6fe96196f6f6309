//! What the order service does with the answers of inventory and billing, and with the catalogue.

use consumer::{EventType, HandleError, Handler, Limits, Message, Noted, Subscription, Topic};
use proto::{
    billing::v1::{PaymentFailed, PaymentFailure, PaymentRefunded, PaymentSucceeded},
    inventory::v1::{
        CommitFailed, ProductUpserted, ShipmentScheduled, StockRejected, StockRejection, StockReleased,
        StockReserved,
    },
};
use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::Span;
use uuid::Uuid;

use crate::{
    app::{Deadlines, Locked},
    domain::{self, Command, Money, Offer, Reason, Shipment},
    metrics::{Happened, Metrics},
    store,
};

/// Inventory's answers.
pub const STOCK_RESULTS: &str = "stock-results";
/// Billing's answers.
pub const PAYMENT_RESULTS: &str = "payment-results";

/// What the order service reads.
pub const SUBSCRIPTION: Subscription = Subscription {
    group: "order",
    topics: &[
        Topic::new(
            STOCK_RESULTS,
            &[
                EventType::of::<StockReserved>(),
                EventType::of::<StockRejected>(),
                EventType::of::<StockReleased>(),
                EventType::of::<ShipmentScheduled>(),
                EventType::of::<CommitFailed>(),
            ],
        ),
        Topic::new(
            PAYMENT_RESULTS,
            &[
                EventType::of::<PaymentSucceeded>(),
                EventType::of::<PaymentFailed>(),
                EventType::of::<PaymentRefunded>(),
            ],
        ),
        Topic::new("product-events", &[EventType::of::<ProductUpserted>()]),
    ],
    limits: Limits::DEFAULT,
};

/// Handles the records of [`SUBSCRIPTION`].
#[derive(Debug)]
pub struct Results {
    deadlines: Deadlines,
    metrics: Metrics,
    /// What each record has led to and is not known to be committed.
    happened: Noted<Vec<Happened>>,
}

/// What an answer is about.
struct Answer {
    order_id: Uuid,
    /// Billing names it, too.
    payment_id: Option<Uuid>,
    command: Command,
}

impl Handler for Results {
    async fn handle(
        &self,
        connection: &mut PgConnection,
        message: &Message,
    ) -> Result<Vec<outbox::Event>, HandleError> {
        if message.is::<ProductUpserted>() {
            product(connection, message.decode()?).await?;
            return Ok(Vec::new());
        }
        self.settle(connection, vec![(Span::current(), message)]).await
    }

    async fn handle_all(
        &self,
        connection: &mut PgConnection,
        messages: &[&Message],
    ) -> Result<Vec<outbox::Event>, HandleError> {
        let mut answers = Vec::with_capacity(messages.len());
        for message in messages {
            if message.is::<ProductUpserted>() {
                product(connection, message.decode()?).await?;
            } else {
                answers.push((message.span(), *message));
            }
        }
        self.settle(connection, answers).await
    }

    fn committed(&self, messages: &[&Message]) {
        for happened in self.happened.take(messages) {
            self.metrics.count(&happened);
        }
    }
}

impl Results {
    /// What an answer leads to is waited for so long.
    pub fn new(deadlines: Deadlines, metrics: Metrics) -> Self {
        Self { deadlines, metrics, happened: Noted::default() }
    }

    /// Lets answers take effect on their orders, in their order. What each causes is told in the trace of its span.
    async fn settle(
        &self,
        connection: &mut PgConnection,
        messages: Vec<(Span, &Message)>,
    ) -> Result<Vec<outbox::Event>, HandleError> {
        let mut answers = Vec::with_capacity(messages.len());
        for (span, message) in messages {
            answers.extend(answer(message)?.map(|answer| (span, message, answer)));
        }
        let order_ids: Vec<Uuid> = answers.iter().map(|(.., answer)| answer.order_id).collect();
        let mut orders = Locked::lock(connection, &order_ids, self.deadlines).await?;
        let mut told = Vec::new();
        for (span, message, answer) in answers {
            told.extend(span.in_scope(|| answer.settle(&mut orders))?);
            self.happened.note(message, orders.take_happened());
        }
        orders.write(connection).await?;
        Ok(told)
    }
}

impl Answer {
    fn settle(self, orders: &mut Locked) -> Result<Vec<outbox::Event>, HandleError> {
        let Self { order_id, payment_id, command } = self;
        let paid_by = orders.get(order_id).map(|stored| stored.order.payment_id);
        if payment_id.is_some() && paid_by.is_some() && payment_id != paid_by {
            return Err(HandleError::poison(format!(
                "field payment_id is not the payment of order {order_id}"
            )));
        }
        // An answer about an order that this database does not know is poison.
        let (_, told) =
            orders.apply(order_id, command).map_err(|error| HandleError::poison(error.to_string()))?;
        Ok(told)
    }
}

fn answer(message: &Message) -> Result<Option<Answer>, HandleError> {
    let of_stock = |order_id: &str, command| {
        Ok(Answer { order_id: uuid("order_id", order_id)?, payment_id: None, command })
    };
    let of_payment = |order_id: &str, payment_id: &str, command| {
        let payment_id = Some(uuid("payment_id", payment_id)?);
        Ok::<_, HandleError>(Answer { order_id: uuid("order_id", order_id)?, payment_id, command })
    };
    let answer: Result<Answer, HandleError> = if message.is::<StockReserved>() {
        of_stock(&message.decode::<StockReserved>()?.order_id, Command::StockReserved)
    } else if message.is::<StockRejected>() {
        let rejected: StockRejected = message.decode()?;
        of_stock(&rejected.order_id, Command::StockRejected(rejection(rejected.rejection())?))
    } else if message.is::<StockReleased>() {
        of_stock(&message.decode::<StockReleased>()?.order_id, Command::StockReleased)
    } else if message.is::<ShipmentScheduled>() {
        let scheduled: ShipmentScheduled = message.decode()?;
        let order_id = scheduled.order_id.clone();
        of_stock(&order_id, Command::ShipmentScheduled(shipment(scheduled)?))
    } else if message.is::<CommitFailed>() {
        of_stock(&message.decode::<CommitFailed>()?.order_id, Command::CommitFailed)
    } else if message.is::<PaymentSucceeded>() {
        let PaymentSucceeded { payment_id, order_id } = message.decode()?;
        of_payment(&order_id, &payment_id, Command::PaymentSucceeded)
    } else if message.is::<PaymentFailed>() {
        let failed: PaymentFailed = message.decode()?;
        let command = Command::PaymentFailed(failure(failed.failure())?);
        of_payment(&failed.order_id, &failed.payment_id, command)
    } else if message.is::<PaymentRefunded>() {
        let PaymentRefunded { payment_id, order_id, amount } = message.decode()?;
        let minor = amount.map_or(0, |amount| amount.minor);
        if minor < 0 {
            return Err(HandleError::poison("field amount.minor is negative"));
        }
        of_payment(&order_id, &payment_id, Command::PaymentRefunded { minor })
    } else {
        return Ok(None);
    };
    answer.map(Some)
}

/// Takes a product into this service's own view of the catalogue, unless it knows a newer one.
async fn product(connection: &mut PgConnection, product: ProductUpserted) -> Result<(), HandleError> {
    if !domain::is_external_id(&product.product_id) {
        return Err(HandleError::poison("field product_id must be 1 to 64 of A-Z a-z 0-9 . _ -"));
    }
    let price = product.price.filter(|price| price.minor > 0 && price.currency.len() == 3);
    let price = price.ok_or_else(|| HandleError::poison("field price is missing or no price"))?;
    if product.version < 1 {
        return Err(HandleError::poison("field version must be at least 1"));
    }
    let offer =
        Offer { price: Money { currency: price.currency, minor: price.minor }, archived: product.archived };
    store::offer(connection, &product.product_id, &product.name, product.version, &offer).await?;
    Ok(())
}

fn shipment(scheduled: ShipmentScheduled) -> Result<Shipment, HandleError> {
    let at = scheduled.ship_time.ok_or_else(|| HandleError::poison("field ship_time is missing"))?;
    let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
    let ship_time = OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .map_err(|_| HandleError::poison("field ship_time is out of range"))?;
    let shipment_id = uuid("shipment_id", &scheduled.shipment_id)?;
    Ok(Shipment { shipment_id, carrier: scheduled.carrier, ship_time })
}

fn uuid(field: &str, value: &str) -> Result<Uuid, HandleError> {
    Uuid::parse_str(value).map_err(|_| HandleError::poison(format!("field {field} is no UUID")))
}

fn rejection(rejection: StockRejection) -> Result<Reason, HandleError> {
    match rejection {
        StockRejection::OutOfStock => Ok(Reason::OutOfStock),
        StockRejection::NotSold => Ok(Reason::NotSold),
        StockRejection::Expired => Ok(Reason::StockExpired),
        StockRejection::Unspecified => Err(HandleError::poison("field rejection is unknown or unspecified")),
    }
}

fn failure(failure: PaymentFailure) -> Result<Reason, HandleError> {
    match failure {
        PaymentFailure::Declined => Ok(Reason::PaymentDeclined),
        PaymentFailure::InsufficientFunds => Ok(Reason::InsufficientFunds),
        PaymentFailure::Expired => Ok(Reason::PaymentExpired),
        PaymentFailure::Unspecified => Err(HandleError::poison("field failure is unknown or unspecified")),
    }
}

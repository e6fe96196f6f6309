//! Kafka: one function for each event of `payment-requests`. SQL only; the dispatcher calls the provider afterwards.

use consumer::{EventType, HandleError, Handler, Limits, Message, Noted, Subscription, Topic};
use outbox::Event;
use proto::billing::v1::{PaymentRequested, RefundRequested};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    app::{Payments, announce, carry_out},
    domain::{Change, Command, Failure, Money, NO_CURRENCY, Payment, Status},
    metrics::Metrics,
    provider::PaymentToken,
    store,
};

/// What billing reads.
pub const SUBSCRIPTION: Subscription = Subscription {
    group: "billing",
    topics: &[Topic::new(
        "payment-requests",
        &[EventType::of::<PaymentRequested>(), EventType::of::<RefundRequested>()],
    )],
    limits: Limits::DEFAULT,
};

/// Longer than any provider's tokens.
const MAX_TOKEN: usize = 512;

/// Handles the commands to billing.
#[derive(Debug)]
pub struct PaymentRequests {
    metrics: Metrics,
    /// The statuses that payments come into.
    noted: Noted<Vec<Status>>,
}

/// What a record has led to: what is to be announced, and the statuses that its payment came into.
type Effect = (Vec<Event>, Vec<Status>);

impl PaymentRequests {
    /// Those of these payments.
    pub fn new(payments: &Payments) -> Self {
        Self { metrics: payments.metrics().clone(), noted: Noted::default() }
    }
}

impl Handler for PaymentRequests {
    async fn handle(
        &self,
        connection: &mut PgConnection,
        message: &Message,
    ) -> Result<Vec<Event>, HandleError> {
        let (events, statuses) = if message.is::<PaymentRequested>() {
            let request = Request::parse(message.decode()?).map_err(HandleError::poison)?;
            payment_requested(connection, request, OffsetDateTime::now_utc()).await?
        } else if message.is::<RefundRequested>() {
            let refund = Refund::parse(message.decode()?).map_err(HandleError::poison)?;
            refund_requested(connection, refund).await?
        } else {
            return Ok(vec![]);
        };
        self.noted.note(message, statuses);
        Ok(events)
    }

    fn committed(&self, messages: &[&Message]) {
        self.metrics.came_into(&self.noted.take(messages).concat());
    }
}

/// A [`PaymentRequested`] whose every field holds.
struct Request {
    ids: Ids,
    amount: Money,
    token: PaymentToken,
    not_after: Option<OffsetDateTime>,
}

/// A [`RefundRequested`] whose every field holds.
struct Refund(Ids);

struct Ids {
    payment_id: Uuid,
    order_id: Uuid,
    customer_id: String,
}

async fn payment_requested(
    connection: &mut PgConnection,
    request: Request,
    now: OffsetDateTime,
) -> Result<Effect, HandleError> {
    let expired = request.not_after.is_some_and(|not_after| not_after <= now);
    let mut payment = first_version(request.ids, request.amount, Status::Pending);
    let token = if expired {
        payment.status = Status::Failed;
        payment.failure = Some(Failure::Expired);
        None
    } else {
        Some(&request.token)
    };
    if store::insert(connection, &payment, token, request.not_after).await? {
        let failed = payment.failure.map(|failure| announce(&payment, &Change::Failed(failure)));
        return Ok((failed.unwrap_or_default(), vec![payment.status]));
    }
    let existing = existing(connection, &payment).await?;
    // A refund that came first has been answered; what it cancelled must never be charged.
    let tombstone = existing.amount.currency == NO_CURRENCY;
    if tombstone || existing.amount == payment.amount {
        Ok(Effect::default())
    } else {
        Err(HandleError::poison(format!(
            "payment {} was requested before with another amount",
            payment.payment_id
        )))
    }
}

async fn refund_requested(connection: &mut PgConnection, Refund(ids): Refund) -> Result<Effect, HandleError> {
    let nothing = Money { currency: NO_CURRENCY.to_owned(), minor: 0 };
    let mut tombstone = first_version(ids, nothing, Status::Refunded);
    tombstone.refund_requested = true;
    if store::insert(connection, &tombstone, None, None).await? {
        return Ok((announce(&tombstone, &Change::Refunded { minor: 0 }), vec![tombstone.status]));
    }
    let mut payment = existing(connection, &tombstone).await?;
    Ok(carry_out(connection, &mut payment, &Command::RequestRefund).await?)
}

/// Locks the payment that was there before `wanted`; one of another order or customer is a mix-up that no retry mends.
async fn existing(connection: &mut PgConnection, wanted: &Payment) -> Result<Payment, HandleError> {
    let Some(payment) = store::lock(connection, &[wanted.payment_id]).await?.pop() else {
        return Err(HandleError::poison(format!("order {} already has another payment", wanted.order_id)));
    };
    if payment.order_id != wanted.order_id || payment.customer_id != wanted.customer_id {
        return Err(HandleError::poison(format!(
            "payment {} belongs to another order or customer",
            wanted.payment_id
        )));
    }
    Ok(payment)
}

fn first_version(ids: Ids, amount: Money, status: Status) -> Payment {
    Payment {
        payment_id: ids.payment_id,
        order_id: ids.order_id,
        customer_id: ids.customer_id,
        amount,
        status,
        failure: None,
        version: 1,
        attempts: 0,
        provider_reference: None,
        refund_requested: false,
        refunded_minor: 0,
        // The database's clock sets both.
        created_at: OffsetDateTime::UNIX_EPOCH,
        updated_at: OffsetDateTime::UNIX_EPOCH,
    }
}

impl Request {
    fn parse(event: PaymentRequested) -> Result<Self, String> {
        let ids = Ids::parse(&event.payment_id, &event.order_id, event.customer_id)?;
        let amount = event.amount.ok_or("amount is missing")?;
        if amount.currency.len() != 3 || !amount.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err("amount.currency must be three capital letters".to_owned());
        }
        if amount.currency == NO_CURRENCY {
            return Err(format!("amount.currency must not be {NO_CURRENCY}"));
        }
        if amount.minor <= 0 {
            return Err("amount.minor must be positive".to_owned());
        }
        // Without one the provider would take what it takes by default, which nobody has chosen.
        let token = &event.payment_token;
        if token.is_empty() || token.len() > MAX_TOKEN || token.contains('\0') {
            return Err(format!("payment_token must be 1 to {MAX_TOKEN} bytes without a zero byte"));
        }
        let not_after = event.not_after.map(to_time).transpose()?;
        Ok(Self {
            ids,
            amount: Money { currency: amount.currency, minor: amount.minor },
            token: PaymentToken::new(event.payment_token),
            not_after,
        })
    }
}

impl Refund {
    fn parse(event: RefundRequested) -> Result<Self, String> {
        Ids::parse(&event.payment_id, &event.order_id, event.customer_id).map(Self)
    }
}

impl Ids {
    fn parse(payment_id: &str, order_id: &str, customer_id: String) -> Result<Self, String> {
        let uuid =
            |name: &str, text: &str| Uuid::try_parse(text).map_err(|_| format!("{name} must be a UUID"));
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !(1..=64).contains(&customer_id.len()) || !customer_id.bytes().all(allowed) {
            return Err("customer_id must be 1 to 64 of A-Z a-z 0-9 . _ -".to_owned());
        }
        Ok(Self {
            payment_id: uuid("payment_id", payment_id)?,
            order_id: uuid("order_id", order_id)?,
            customer_id,
        })
    }
}

fn to_time(timestamp: prost_types::Timestamp) -> Result<OffsetDateTime, String> {
    let nanos = i128::from(timestamp.seconds) * 1_000_000_000 + i128::from(timestamp.nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| "not_after is out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use proto::money::v1::Money as ProtoMoney;

    use super::*;

    fn event() -> PaymentRequested {
        PaymentRequested {
            payment_id: Uuid::now_v7().to_string(),
            order_id: Uuid::now_v7().to_string(),
            customer_id: "cust-1".to_owned(),
            amount: Some(ProtoMoney { currency: "EUR".to_owned(), minor: 4999 }),
            payment_token: "tok_ok".to_owned(),
            not_after: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
        }
    }

    #[test]
    fn a_whole_request_is_taken() {
        let request = Request::parse(event()).expect("a valid request");
        assert_eq!(request.amount, Money { currency: "EUR".to_owned(), minor: 4999 });
        assert_eq!(request.not_after.map(OffsetDateTime::unix_timestamp), Some(1_800_000_000));
    }

    #[test]
    fn each_wrong_field_is_named() {
        type Spoil = fn(&mut PaymentRequested);
        let table: [(&str, Spoil); 10] = [
            ("payment_id", |event| event.payment_id = "1".to_owned()),
            ("order_id", |event| event.order_id.clear()),
            ("customer_id", |event| event.customer_id = "a b".to_owned()),
            ("amount", |event| event.amount = None),
            ("amount.currency", |event| {
                event.amount = Some(ProtoMoney { currency: "eur".to_owned(), minor: 1 });
            }),
            ("amount.currency", |event| {
                event.amount = Some(ProtoMoney { currency: "XXX".to_owned(), minor: 1 });
            }),
            ("amount.minor", |event| {
                event.amount = Some(ProtoMoney { currency: "EUR".to_owned(), minor: 0 });
            }),
            ("payment_token", |event| event.payment_token = "t".repeat(MAX_TOKEN + 1)),
            ("payment_token", |event| event.payment_token.clear()),
            ("not_after", |event| {
                event.not_after = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
            }),
        ];
        for (field, spoil) in table {
            let mut event = event();
            spoil(&mut event);
            let reason = Request::parse(event).err().unwrap_or_default();
            assert!(reason.starts_with(field), "{field}: {reason:?}");
        }
    }
}

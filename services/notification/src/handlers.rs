//! Records of `notification-events`: each becomes an intent row, which the dispatcher delivers.

use std::collections::HashSet;

use consumer::{EventType, HandleError, Handler, Limits, Message, Subscription, Topic};
use proto::notification::v1::{NotificationKind, NotificationRequested};
use sqlx::PgConnection;
use tracing::{Instrument as _, debug};
use uuid::Uuid;

use crate::{
    domain::{Channel, Kind, Money, Request, Text},
    store::{self, Requested},
};

/// What this service reads.
pub const SUBSCRIPTION: Subscription = Subscription {
    group: "notification",
    topics: &[Topic::new("notification-events", &[EventType::of::<NotificationRequested>()])],
    limits: Limits::DEFAULT,
};

/// The effects of this service's records.
#[derive(Clone, Copy, Debug)]
pub struct Handlers;

impl Handler for Handlers {
    async fn handle(
        &self,
        connection: &mut PgConnection,
        message: &Message,
    ) -> Result<Vec<outbox::Event>, HandleError> {
        if message.is::<NotificationRequested>() {
            requested(connection, message.decode()?, message).await?;
        }
        Ok(Vec::new())
    }

    /// Two statements, however many records there are.
    async fn handle_all(
        &self,
        connection: &mut PgConnection,
        messages: &[&Message],
    ) -> Result<Vec<outbox::Event>, HandleError> {
        let (mut first, mut repeats) = (Vec::new(), Vec::new());
        let mut known = HashSet::new();
        for record in messages.iter().filter(|record| record.is::<NotificationRequested>()) {
            let request = parse(record.decode()?)?;
            if known.insert((request.order_id, request.kind)) {
                first.push((*record, Text::of(&request), request));
            } else {
                repeats.push(*record);
            }
        }
        if !first.is_empty() {
            requested_together(connection, &first).await?;
        }
        // One statement cannot meet the same notification twice.
        for record in repeats {
            requested(connection, record.decode()?, record).instrument(record.span()).await?;
        }
        Ok(Vec::new())
    }
}

/// As [`requested`], for many of different orders or kinds.
async fn requested_together(
    connection: &mut PgConnection,
    requests: &[(&Message, Text, Request)],
) -> Result<(), HandleError> {
    let customer_ids: HashSet<&str> =
        requests.iter().map(|(.., request)| request.customer_id.as_ref()).collect();
    let customer_ids: Vec<&str> = customer_ids.into_iter().collect();
    let channels = store::channels(connection, &customer_ids).await?;
    let default = Channel::default();
    let requested = requests.iter().map(|(record, text, request)| {
        let channel = channels.get(request.customer_id.as_ref()).unwrap_or(&default);
        Requested { request, channel, text, record }
    });
    let requested: Vec<Requested<'_>> = requested.collect();
    let new = store::request_all(connection, &requested).await?;
    debug!(count = requested.len(), new, "notifications requested");
    Ok(())
}

/// Renders it and writes it down with the customer's settings of this moment.
async fn requested(
    connection: &mut PgConnection,
    event: NotificationRequested,
    record: &Message,
) -> Result<(), HandleError> {
    let request = parse(event)?;
    let channel = store::channel(connection, &request.customer_id).await?;
    let new = store::request(connection, &request, &channel, &Text::of(&request), record).await?;
    debug!(order_id = %request.order_id, kind = request.kind.name(), new, "notification requested");
    Ok(())
}

fn parse(event: NotificationRequested) -> Result<Request, HandleError> {
    let wrong = |field: &str, why: &str| HandleError::poison(format!("notification request: {field} {why}"));
    let kind = match event.kind() {
        NotificationKind::PaymentReceipt => Kind::PaymentReceipt,
        NotificationKind::OrderConfirmed => Kind::OrderConfirmed,
        NotificationKind::OrderRejected => Kind::OrderRejected,
        NotificationKind::OrderCancelled => Kind::OrderCancelled,
        NotificationKind::OrderRefunded => Kind::OrderRefunded,
        NotificationKind::OrderShipped => Kind::OrderShipped,
        NotificationKind::Unspecified => {
            return Err(wrong("kind", &format!("{} is not a known one", event.kind)));
        }
    };
    let order_id = Uuid::try_parse(&event.order_id).map_err(|_| wrong("order_id", "is no UUID"))?;
    let customer_id = event.customer_id.parse().map_err(|why| wrong("customer_id", &format!("{why}")))?;
    let amount = event.amount.map(|money| Money::new(&money.currency, money.minor));
    let amount = amount.transpose().map_err(|why| wrong("amount", &why.to_string()))?;
    Ok(Request { order_id, customer_id, kind, amount, reason: event.reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> NotificationRequested {
        NotificationRequested {
            order_id: "0199aa00-0000-7000-8000-000000000000".into(),
            customer_id: "cust-1".into(),
            kind: NotificationKind::PaymentReceipt.into(),
            amount: Some(proto::money::v1::Money { currency: "EUR".into(), minor: 4999 }),
            reason: String::new(),
        }
    }

    #[test]
    fn what_is_wrong_with_a_request_is_named() {
        assert!(parse(event()).is_ok());
        let money =
            |currency: &str, minor| Some(proto::money::v1::Money { currency: currency.into(), minor });
        let cases = [
            ("kind", NotificationRequested { kind: 0, ..event() }),
            ("kind", NotificationRequested { kind: 99, ..event() }),
            ("order_id", NotificationRequested { order_id: "42".into(), ..event() }),
            ("customer_id", NotificationRequested { customer_id: String::new(), ..event() }),
            ("amount", NotificationRequested { amount: money("euro", 1), ..event() }),
            ("amount", NotificationRequested { amount: money("EUR", -1), ..event() }),
        ];
        for (field, event) in cases {
            let error = parse(event).expect_err(field).to_string();
            assert!(error.starts_with(&format!("notification request: {field} ")), "{error}");
        }
    }
}

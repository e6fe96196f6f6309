//! What a record of `stock-requests` asks for.

use consumer::{HandleError, Message};
use proto::inventory::v1::{CommitStock, ReleaseStock, ReserveStock, StockItem};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{Command, Item, ProductId, Reservation, State, bucket_of, merge};

/// A command whose every field holds.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// Whose reservation it is about.
    pub order_id: Uuid,
    /// Where its partition takes from.
    pub bucket: i16,
    /// What is to be done.
    pub command: Command,
    /// What is to be reserved, each product once; empty for other commands.
    pub items: Vec<Item>,
}

impl Request {
    /// The request of a record; none where its type is no command. What breaks a rule is poison.
    pub fn parse(message: &Message, now: OffsetDateTime) -> Result<Option<Self>, HandleError> {
        let (order_id, command, items) = if message.is::<ReserveStock>() {
            let Reserve { order_id, items, not_after } =
                Reserve::parse(message.decode()?).map_err(HandleError::poison)?;
            let expired = not_after.is_some_and(|not_after| not_after <= now);
            (order_id, Command::Reserve { expired }, items)
        } else if message.is::<CommitStock>() {
            let order_id = parse_order_id(&message.decode::<CommitStock>()?.order_id);
            (order_id.map_err(HandleError::poison)?, Command::Commit, vec![])
        } else if message.is::<ReleaseStock>() {
            let order_id = parse_order_id(&message.decode::<ReleaseStock>()?.order_id);
            (order_id.map_err(HandleError::poison)?, Command::Release, vec![])
        } else {
            return Ok(None);
        };
        Ok(Some(Self { order_id, bucket: bucket_of(message.partition), command, items }))
    }

    /// An order asks for the same each time; poison where it does not, while it holds something.
    pub fn check_items(&self, existing: &Reservation) -> Result<(), HandleError> {
        let holds = matches!(existing.state, State::Reserved | State::Committed);
        if matches!(self.command, Command::Reserve { .. }) && holds && existing.items != self.items {
            return Err(HandleError::poison(format!("items of order {} were others before", self.order_id)));
        }
        Ok(())
    }
}

/// A [`ReserveStock`] whose every field holds.
struct Reserve {
    order_id: Uuid,
    items: Vec<Item>,
    not_after: Option<OffsetDateTime>,
}

fn parse_order_id(text: &str) -> Result<Uuid, String> {
    Uuid::try_parse(text).map_err(|_| "order_id must be a UUID".to_owned())
}

impl Reserve {
    fn parse(event: ReserveStock) -> Result<Self, String> {
        let order_id = parse_order_id(&event.order_id)?;
        if event.items.is_empty() {
            return Err("items must not be empty".to_owned());
        }
        let items = event.items.into_iter().enumerate().map(|(index, StockItem { product_id, quantity })| {
            let product_id: ProductId =
                product_id.parse().map_err(|error| format!("items[{index}].product_id {error}"))?;
            if quantity < 1 {
                return Err(format!("items[{index}].quantity must be at least 1"));
            }
            Ok(Item { product_id, quantity: i64::from(quantity) })
        });
        let items = merge(items.collect::<Result<Vec<_>, _>>()?);
        Ok(Self { order_id, items, not_after: event.not_after.map(to_time).transpose()? })
    }
}

fn to_time(timestamp: prost_types::Timestamp) -> Result<OffsetDateTime, String> {
    let nanos = i128::from(timestamp.seconds) * 1_000_000_000 + i128::from(timestamp.nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| "not_after is out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> ReserveStock {
        ReserveStock {
            order_id: Uuid::now_v7().to_string(),
            items: vec![item("mug", 2), item("pen", 1), item("mug", 3)],
            not_after: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
        }
    }

    fn item(product_id: &str, quantity: i32) -> StockItem {
        StockItem { product_id: product_id.to_owned(), quantity }
    }

    #[test]
    fn a_whole_request_is_taken_and_each_product_counted_once() {
        let request = Reserve::parse(event()).expect("a valid request");
        let items: Vec<_> =
            request.items.iter().map(|item| (item.product_id.as_str(), item.quantity)).collect();
        assert_eq!(items, [("mug", 5), ("pen", 1)]);
        assert_eq!(request.not_after.map(OffsetDateTime::unix_timestamp), Some(1_800_000_000));
    }

    #[test]
    fn quantities_add_up_beyond_32_bits() {
        let items = vec![item("mug", i32::MAX), item("mug", i32::MAX)];
        let request = Reserve::parse(ReserveStock { items, ..event() }).expect("a valid request");
        assert_eq!(request.items[0].quantity, 2 * i64::from(i32::MAX));
    }

    #[test]
    fn each_wrong_field_is_named() {
        type Spoil = fn(&mut ReserveStock);
        let table: [(&str, Spoil); 7] = [
            ("order_id", |event| event.order_id = "1".to_owned()),
            ("items", |event| event.items.clear()),
            ("items[1].product_id", |event| event.items[1].product_id = "a b".to_owned()),
            ("items[0].product_id", |event| event.items[0].product_id.clear()),
            ("items[2].quantity", |event| event.items[2].quantity = 0),
            ("items[0].quantity", |event| event.items[0].quantity = -1),
            ("not_after", |event| {
                event.not_after = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
            }),
        ];
        for (field, spoil) in table {
            let mut event = event();
            spoil(&mut event);
            let reason = Reserve::parse(event).err().unwrap_or_default();
            assert!(reason.starts_with(&format!("{field} ")), "{field}: {reason:?}");
        }
    }
}

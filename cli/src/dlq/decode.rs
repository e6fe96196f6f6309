//! Payloads as JSON, by the contract that this command was built with.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

static CONTRACT: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTORS).ok());

/// The payload's fields, also those that have their default; or why they cannot be told.
pub(super) fn json(event_type: Option<&str>, payload: &[u8]) -> Result<Value, String> {
    let event_type = event_type.ok_or("the record does not say its type")?;
    let descriptor = CONTRACT.as_ref().and_then(|contract| contract.get_message_by_name(event_type));
    let descriptor = descriptor.ok_or_else(|| format!("{event_type} is not in this version's contract"))?;
    let message = DynamicMessage::decode(descriptor, payload).map_err(|error| error.to_string())?;
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use prost::{Message as _, Name as _};
    use proto::{billing::v1::PaymentRequested, money::v1::Money};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_known_event_is_shown_with_all_its_fields() {
        let event = PaymentRequested {
            payment_id: "p".into(),
            amount: Some(Money { currency: "EUR".into(), minor: 4_999 }),
            ..Default::default()
        };
        let decoded = json(Some(&PaymentRequested::full_name()), &event.encode_to_vec());
        let decoded = decoded.expect("it is in the contract");
        assert_eq!(decoded["amount"], json!({ "currency": "EUR", "minor": "4999" }));
        assert_eq!((&decoded["payment_id"], &decoded["order_id"]), (&json!("p"), &json!("")));
    }

    #[test]
    fn what_does_not_decode_says_why() {
        let why = |event_type, payload| json(event_type, payload).expect_err("it does not decode");
        assert!(why(None, b"").contains("does not say its type"));
        assert!(why(Some("a.B"), b"").contains("a.B is not in this version's contract"));
        assert!(!why(Some(&PaymentRequested::full_name()), b"no protobuf").is_empty());
    }
}

//! The words that a customer reads.

use super::{Kind, Money, Request};

/// Subject and body, plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// One line.
    pub subject: String,
    /// Paragraphs, ending with the order's id.
    pub body: String,
}

impl Text {
    /// Renders what the request says; contains no contact data.
    pub fn of(request: &Request) -> Self {
        let Request { order_id, kind, amount, reason, .. } = request;
        let amount = amount.as_ref().filter(|amount| !amount.is_zero());
        let (subject, mut sentence) = match kind {
            Kind::PaymentReceipt => ("Receipt for your order", receipt(amount)),
            Kind::OrderConfirmed => {
                ("Your order is confirmed", "Your order is confirmed. Thank you.".to_owned())
            }
            Kind::OrderRejected => {
                ("Your order was not accepted", "We could not accept your order.".to_owned())
            }
            Kind::OrderCancelled => ("Your order is cancelled", "Your order is cancelled.".to_owned()),
            Kind::OrderRefunded => ("Your refund", refund(amount)),
            Kind::OrderShipped => ("Your order is on its way", "Your order is on its way.".to_owned()),
        };
        if let (Kind::OrderRejected | Kind::OrderCancelled, Some(amount)) = (kind, amount) {
            sentence.push_str(&format!(" We return {amount} to you."));
        }
        let reason = one_line(reason);
        let label = if *kind == Kind::OrderShipped { "Shipment" } else { "Reason" };
        let why = if reason.is_empty() { String::new() } else { format!("{label}: {reason}\n\n") };
        Self {
            subject: subject.to_owned(),
            body: format!("Hello,\n\n{sentence}\n\n{why}Order: {order_id}\n"),
        }
    }
}

fn receipt(amount: Option<&Money>) -> String {
    match amount {
        Some(amount) => format!("We received your payment of {amount}. Thank you."),
        None => "There was nothing to pay for your order.".to_owned(),
    }
}

fn refund(amount: Option<&Money>) -> String {
    match amount {
        Some(amount) => format!("We have returned {amount} to you."),
        None => "There was nothing to return to you.".to_owned(),
    }
}

/// The reason comes from another service: it gets one line of the text and cannot pretend to be more of it.
fn one_line(reason: &str) -> String {
    const MAX_CHARS: usize = 500;
    let words = reason.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").chars().take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::Invalid;

    fn render(kind: Kind, minor: Option<i64>, reason: &str) -> Result<Text, Invalid> {
        Ok(Text::of(&Request {
            order_id: Uuid::nil(),
            customer_id: "cust-1".parse()?,
            kind,
            amount: minor.map(|minor| Money::new("EUR", minor)).transpose()?,
            reason: reason.to_owned(),
        }))
    }

    #[test]
    fn a_receipt_names_the_amount() -> Result<(), Invalid> {
        let text = render(Kind::PaymentReceipt, Some(4999), "")?;
        assert_eq!(text.subject, "Receipt for your order");
        assert_eq!(
            text.body,
            "Hello,\n\nWe received your payment of EUR 49.99. Thank you.\n\n\
             Order: 00000000-0000-0000-0000-000000000000\n"
        );
        Ok(())
    }

    #[test]
    fn a_rejection_says_why_and_a_cancellation_what_is_returned() -> Result<(), Invalid> {
        let rejected = render(Kind::OrderRejected, None, "the payment was declined")?;
        assert!(rejected.body.contains("\n\nReason: the payment was declined\n\n"), "{}", rejected.body);
        let cancelled = render(Kind::OrderCancelled, Some(100), "")?;
        assert!(
            cancelled.body.contains("Your order is cancelled. We return EUR 1.00 to you."),
            "{}",
            cancelled.body
        );
        assert!(!cancelled.body.contains("Reason"));
        let unpaid = render(Kind::OrderCancelled, Some(0), "")?;
        assert!(!unpaid.body.contains("return"), "{}", unpaid.body);
        Ok(())
    }

    #[test]
    fn a_refund_names_the_amount_and_a_shipment_how_it_travels() -> Result<(), Invalid> {
        let refunded = render(Kind::OrderRefunded, Some(4999), "")?;
        assert_eq!(refunded.subject, "Your refund");
        assert!(refunded.body.contains("\n\nWe have returned EUR 49.99 to you.\n\n"), "{}", refunded.body);
        let shipped = render(Kind::OrderShipped, None, "with Post, fetched on 24 November")?;
        assert_eq!(shipped.subject, "Your order is on its way");
        let travels = "\n\nShipment: with Post, fetched on 24 November\n\n";
        assert!(shipped.body.contains(travels), "{}", shipped.body);
        Ok(())
    }

    #[test]
    fn a_reason_stays_one_line_of_bounded_length() -> Result<(), Invalid> {
        let body = render(Kind::OrderRejected, None, "a\r\n\r\nOrder: 1\0\tb")?.body;
        assert!(body.contains("\nReason: a Order: 1 b\n"), "{body}");
        let body = render(Kind::OrderRejected, None, &"é".repeat(9_999))?.body;
        assert_eq!(body.matches('é').count(), 500);
        Ok(())
    }
}

//! Orders that are cancelled after everything has happened: all of it is undone.

use std::fs;

use anyhow::Context as _;
use proto::{
    notification::v1::NotificationKind::{
        OrderCancelled, OrderConfirmed, OrderRefunded, OrderShipped, PaymentReceipt,
    },
    order::v1::{OrderStatus, StatusReason},
};
use serde_json::Value;
use testkit::Part;

use crate::client::{cancel, place, platform, reached, shipped, stock, told};

#[tokio::test]
async fn a_confirmed_order_that_is_cancelled_is_called_off_and_refunded() -> anyhow::Result<()> {
    let platform = platform().await?;
    let before = stock(&platform, "gaming-mouse").await?;
    let order = place(&platform, "tok_ok").await?;
    shipped(&platform, &order.order_id).await?;
    cancel(&platform, &order.order_id).await?;

    let answer = reached(&platform, &order.order_id, OrderStatus::Cancelled).await?;
    let ended = answer.order.context("an order")?;
    assert_eq!(ended.status_reason(), StatusReason::CancelledByCustomer);
    let mut history: Vec<_> = answer.history.iter().skip(5).map(|step| step.event.as_str()).collect();
    // Money and stock answer in any order.
    if let Some(answers) = history.get_mut(1..3) {
        answers.sort_unstable();
    }
    assert_eq!(history, ["CompensationStarted", "PaymentRefunded", "StockReleased", "OrderCancelled"]);
    assert_eq!(stock(&platform, "gaming-mouse").await?, before);
    let ledger = fs::read_to_string(platform.ledger(Part::Provider))?;
    let lines = ledger.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let of_payment = lines.iter().filter(|line| line["payment_id"] == order.payment_id.as_str());
    let moved: Vec<_> = of_payment.map(|line| (&line["kind"], &line["minor"])).collect();
    assert_eq!(moved, [(&"charge".into(), &4_999.into()), (&"refund".into(), &4_999.into())]);
    assert_eq!(
        told(&platform, &order.order_id, 5).await?,
        [PaymentReceipt, OrderConfirmed, OrderCancelled, OrderRefunded, OrderShipped]
    );
    Ok(())
}

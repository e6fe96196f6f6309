//! SIGTERM: not ready, drained, exit 0.

use proto::order::v1::OrderStatus;
use testkit::Part;

use crate::client::{place, platform, reached};

#[tokio::test]
async fn every_process_drains_and_exits_with_0() -> anyhow::Result<()> {
    let mut platform = platform().await?;
    let order = place(&platform, "tok_ok").await?;
    for part in Part::SERVICES.into_iter().chain([Part::Relay]) {
        assert_eq!(platform.terminate(part).await?, Some(0), "{part:?}");
    }
    for part in [Part::Relay].into_iter().chain(Part::SERVICES) {
        platform.restart(part).await?;
    }
    reached(&platform, &order.order_id, OrderStatus::Confirmed).await?;
    Ok(())
}

//! A collector that does not take spans slows and stops nobody.

use proto::order::v1::OrderStatus;
use testkit::{Collector, Part};

use crate::client::{place, platform, reached};

#[tokio::test]
async fn a_collector_that_is_gone_stuck_or_refusing_changes_nothing() -> anyhow::Result<()> {
    let mut platform = platform().await?;
    platform.expect_log("spans are not exported and are lost");
    let nobody = format!("http://127.0.0.1:{}", stack::port::free());
    let (stuck, refusing) = (Collector::black_hole().await?, Collector::refusing().await?);
    for (what, collector) in [("nobody", None), ("stuck", Some(&stuck)), ("refusing", Some(&refusing))] {
        let endpoint = collector.map_or(nobody.clone(), Collector::endpoint);
        platform
            .configure_all(&[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
                ("OTEL_TRACES_SAMPLER", "always_on"),
                ("OTEL_BSP_SCHEDULE_DELAY", "10"),
            ])
            .await?;
        let mut orders = Vec::new();
        for _ in 0..5 {
            orders.push(place(&platform, "tok_ok").await?);
        }
        for order in orders {
            reached(&platform, &order.order_id, OrderStatus::Confirmed).await?;
        }
        if let Some(collector) = collector {
            assert!(collector.attempts() > 0, "{what}: nothing was exported");
        }
        let wrong = platform.terminate_all().await?;
        assert!(wrong.is_empty(), "{what}: {wrong:?}");
        platform.start_all().await?;
    }
    // And without the last one too.
    drop(refusing);
    let order = place(&platform, "tok_ok").await?;
    reached(&platform, &order.order_id, OrderStatus::Confirmed).await?;
    assert_eq!(platform.terminate(Part::Order).await?, Some(0));
    Ok(())
}

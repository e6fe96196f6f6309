//! What waits together is processed together, and yet each record in its own trace.

use proto::order::v1::OrderStatus;
use testkit::{Link, Part, Span};

use super::{Caller, conventions, of, published, traced};
use crate::client::{cancel, reached};

#[tokio::test]
async fn records_of_a_batch_stay_in_their_traces_and_what_they_share_is_linked() -> anyhow::Result<()> {
    let (mut platform, collector) = traced().await?;
    platform.kill(Part::Inventory)?;
    let caller = Caller::sampled();
    let order = caller.place(&platform, of("cust-1")).await?;
    // A call of its own, which asks inventory to give back what it has not reserved yet.
    cancel(&platform, &order.order_id).await?;
    published(&platform).await?;
    platform.restart(Part::Inventory).await?;
    reached(&platform, &order.order_id, OrderStatus::Cancelled).await?;
    published(&platform).await?;
    anyhow::ensure!(platform.terminate_all().await?.is_empty(), "every part ends well");

    let spans = collector.spans();
    let of_inventory = |name: &str| -> Vec<&Span> {
        spans.iter().filter(|span| span.service == "inventory" && span.name == name).collect()
    };
    let records = of_inventory("process stock-requests");
    let [reserve, release] = records.as_slice() else { anyhow::bail!("two records, not {records:#?}") };
    assert_eq!(reserve.trace_id, caller.trace_id);
    assert_ne!(release.trace_id, caller.trace_id);
    let batches = of_inventory("process batch");
    let [batch] = batches.as_slice() else { anyhow::bail!("one batch, not {batches:#?}") };
    assert_eq!(
        (&batch.parent_span_id, batch.attributes["messaging.batch.message_count"].as_i64()),
        (&None, Some(2))
    );
    assert!(![&reserve.trace_id, &release.trace_id].contains(&&batch.trace_id), "{batch:#?}");
    let mut creations = Vec::new();
    for record in [reserve, release] {
        let creation = spans.iter().find(|span| Some(&span.span_id) == record.parent_span_id.as_ref());
        let creation = creation.unwrap_or_else(|| panic!("the creation of {record:#?}"));
        assert!(
            creation.name == "create stock-requests" && creation.trace_id == record.trace_id,
            "{creation:#?}"
        );
        assert!(record.is_linked_to(creation) && record.is_linked_to(batch), "{record:#?}");
        creations.push(Link { trace_id: creation.trace_id.clone(), span_id: creation.span_id.clone() });
    }
    assert_eq!(batch.links, creations);
    let shared = spans.iter().filter(|span| span.parent_span_id.as_ref() == Some(&batch.span_id));
    let commits = shared.filter(|span| span.text("db.query.summary") == Some("COMMIT"));
    assert_eq!(commits.count(), 1, "both take effect in one transaction");
    conventions::are_kept(&spans);
    platform.restart(Part::Relay).await
}

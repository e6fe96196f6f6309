//! What happens again is another trace, linked to where it comes from and not merged with it.

use std::collections::BTreeSet;

use cli::credentials::OPERATOR;
use serde_json::Value;
use testkit::{Part, Span, until};

use super::{
    Caller, ORDER, complete, conventions, of, traced,
    tree::{is, tree},
};
use crate::{client::SETTLE, home::Home};

/// What a consumer of the platform reads of an order from the order service.
const FROM_ORDER: [&str; 5] = [
    "process notification-events",
    "process notification-events",
    "process payment-requests",
    "process stock-requests",
    "process stock-requests",
];

#[tokio::test]
async fn what_a_killed_relay_sends_again_is_processed_again_in_traces_of_its_own() -> anyhow::Result<()> {
    let (mut platform, collector) = traced().await?;
    for text in ["lease", "taken over"] {
        platform.expect_log(text);
    }
    // As if it had been killed before it could write down what it has published.
    let orders = platform.order.superuser().await?;
    sqlx::raw_sql("create table public.before as select snap from outbox.cursor").execute(&orders).await?;
    let caller = Caller::sampled();
    complete(&platform, caller.place(&platform, of("cust-1")).await?).await?;
    platform.kill(Part::Relay)?;
    sqlx::raw_sql(
        "update outbox.cursor set snap = before.snap, win = null, win_id = 0 from public.before;
         drop table public.before",
    )
    .execute(&orders)
    .await?;
    orders.close().await;
    platform.restart(Part::Relay).await?;
    collector
        .wait("each record is processed again", |spans| {
            (spans.iter().filter(is_repeat).count() == FROM_ORDER.len()).then_some(())
        })
        .await?;
    anyhow::ensure!(platform.terminate_all().await?.is_empty(), "every part ends well");

    let spans = collector.trace(&caller.trace_id);
    let is_sent = |span: &&Span| span.service == "outbox-relay" && span.name.starts_with("send ");
    // Of the order service's own: order-created, four order-status, and what others read.
    assert_eq!(spans.iter().filter(is_sent).count(), 14 + 10, "{spans:#?}");
    let consumed: Vec<Span> = spans.into_iter().filter(|span| span.service != "outbox-relay").collect();
    let lines = ORDER.lines().filter(|line| !line.contains("outbox-relay"));
    is(&tree(&consumed), &lines.map(|line| format!("{line}\n")).collect::<String>());

    let spans = collector.spans();
    let repeats: Vec<&Span> = spans.iter().filter(is_repeat).collect();
    let mut names: Vec<&str> = repeats.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, FROM_ORDER);
    let traces: BTreeSet<&str> = repeats.iter().map(|span| span.trace_id.as_str()).collect();
    assert_eq!(traces.len(), repeats.len(), "each is a trace of its own: {repeats:#?}");
    for repeat in repeats {
        is_linked_to_creation(repeat, &consumed);
        let caused = spans.iter().filter(|span| span.trace_id == repeat.trace_id);
        let events: Vec<_> = caused.filter(|span| span.name.starts_with("create ")).collect();
        assert!(events.is_empty(), "a repeat causes nothing: {events:#?}");
    }
    conventions::are_kept(&spans);
    platform.restart(Part::Relay).await
}

#[tokio::test]
async fn what_a_replay_causes_is_in_the_trace_of_the_replay() -> anyhow::Result<()> {
    let (mut platform, collector) = traced().await?;
    platform.expect_log("dead letter");
    let home = Home::of(&platform).await?;
    let billing = platform.billing.superuser().await?;
    sqlx::raw_sql(
        "create function break() returns trigger language plpgsql as $$ begin raise exception 'broken'; end $$;
         create trigger break before insert on payments for each row execute function break()",
    )
    .execute(&billing)
    .await?;
    let caller = Caller::sampled();
    let order = caller.place(&platform, of("cust-1")).await?;
    until("the record is parked", SETTLE, async || {
        let listed = home.orderly(OPERATOR, &["dlq", "list", "--json"]).await?;
        let groups: Value = serde_json::from_str(&listed.data)?;
        Ok((groups[0]["parked"] == 1).then_some(()))
    })
    .await?;
    sqlx::raw_sql("drop trigger break on payments").execute(&billing).await?;
    billing.close().await;
    let replayed = home.orderly(OPERATOR, &["dlq", "replay", "--all", "--reason", "mended"]).await?;
    anyhow::ensure!(replayed.code == Some(0), "{replayed:?}");
    complete(&platform, order).await?;
    anyhow::ensure!(platform.terminate_all().await?.is_empty(), "every part ends well");

    let spans = collector.spans();
    let replays: Vec<&Span> =
        spans.iter().filter(|span| span.attributes.contains_key("orderly.replay.id")).collect();
    let [replay] = replays.as_slice() else { anyhow::bail!("one record was replayed, not {replays:#?}") };
    assert_eq!(replay.name, "process payment-requests");
    let original = collector.trace(&caller.trace_id);
    is_linked_to_creation(replay, &original);
    // From there on it is the whole order again, with the replay for its root.
    let whole = subtree(ORDER, "billing: process payment-requests");
    is(&tree(&collector.trace(&replay.trace_id)), &whole);
    let before = tree(&original);
    assert!(before.contains("billing: process payment-requests => !"), "{before}");
    for name in ["charge payment", "create payment-results"] {
        assert!(!before.contains(name), "{before}");
    }
    conventions::are_kept(&spans);
    platform.restart(Part::Relay).await
}

fn is_repeat(span: &&Span) -> bool {
    span.attributes.get("orderly.repeat").is_some_and(|repeat| repeat == true)
}

/// It begins a trace of its own, and is linked to the creation of its record in the order's trace.
fn is_linked_to_creation(span: &Span, order: &[Span]) {
    assert_eq!(span.parent_span_id, None, "{span:#?}");
    let creation = order.iter().find(|known| {
        known.name.starts_with("create ")
            && known.text("messaging.message.id") == span.text("messaging.message.id")
    });
    let creation = creation.unwrap_or_else(|| panic!("the creation of {span:#?}"));
    assert!(span.trace_id != creation.trace_id && span.is_linked_to(creation), "{span:#?} of {creation:#?}");
}

/// A span of a tree and all below it, as a tree of its own.
fn subtree(tree: &str, root: &str) -> String {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut lines = tree.lines().skip_while(|line| !line.trim_start().starts_with(root));
    let first = lines.next().unwrap_or_default();
    let below = lines.take_while(|line| depth(line) > depth(first)).map(|line| &line[depth(first)..]);
    // A root is linked to no parent.
    let root = first.trim_start().trim_end_matches(" =>");
    std::iter::once(root).chain(below).map(|line| format!("{line}\n")).collect()
}

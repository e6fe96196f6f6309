//! What is told of a sampled event, and that telling it costs nobody anything.

use std::time::Duration;

use outbox::Event;
use serde_json::json;
use sqlx::PgPool;
use testkit::{Collector, Kind, Span, until};

use crate::{
    records::Records,
    refusals::{append, arrive, event, operator},
    relay::Relay,
    scene::Scene,
};

const WITHIN: Duration = Duration::from_secs(30);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CREATED: &str = "b7ad6b7169203331";

/// An event that was created in [`TRACE`].
fn sampled(topic: &'static str, key: &str, sequence: i64) -> Event {
    with_trace(event(topic, key, sequence, b"v".to_vec()), &format!("00-{TRACE}-{CREATED}-01"))
}

fn with_trace(mut event: Event, traceparent: &str) -> Event {
    event.headers.push_text("traceparent", traceparent);
    event.headers.push_text("tracestate", "vendor=a");
    event
}

fn traced(scene: &Scene, collector: &Collector) -> anyhow::Result<Relay> {
    let endpoint = collector.endpoint();
    scene.relay_with(
        "relay",
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "100")],
    )
}

fn is_child_of_creation(span: &Span) -> bool {
    span.trace_id == TRACE && span.parent_span_id.as_deref() == Some(CREATED)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sampled_event_is_told_by_its_wait_and_its_sending_and_no_other_is() -> anyhow::Result<()> {
    let (scene, collector) = (Scene::set().await?, Collector::start().await?);
    let relay = traced(&scene, &collector)?;
    let (app, mut records) = (PgPool::connect_with(scene.writer()?).await?, scene.records()?);
    let told = sampled("alpha", "told", 1);
    let plain = || event("alpha", "k", 1, b"v".to_vec());
    let mut binary = event("alpha", "binary", 1, b"v".to_vec());
    binary.headers.push("traceparent", Some(vec![0xff; 55]));
    append(
        &app,
        vec![
            Event {
                key: Some(b"unsampled".to_vec()),
                ..with_trace(plain(), &format!("00-{TRACE}-{CREATED}-00"))
            },
            Event { key: Some(b"without".to_vec()), ..plain() },
            told.clone(),
            Event { key: Some(b"rubbish".to_vec()), ..with_trace(plain(), &"1".repeat(55)) },
            binary,
        ],
    )
    .await?;
    for key in ["unsampled", "without", "told", "rubbish", "binary"] {
        arrive(&mut records, "alpha", key, &[1]).await?;
    }
    // The last spans are flushed when it ends.
    assert_eq!(relay.terminate().await?, Some(0));
    let spans = collector.spans();
    let found: Vec<_> = spans.iter().map(|span| (span.name.as_str(), span.kind)).collect();
    assert_eq!(found, [("wait outbox", Kind::Internal), ("send alpha", Kind::Client)]);
    let record = records.read_to_the_end()?.iter().find(|record| record.id() == Some(told.id));
    let record = record.expect("it has arrived");
    assert_eq!(record.headers, told.headers, "the creation context stays what it was");

    let (wait, send) = (&spans[0], &spans[1]);
    assert!(is_child_of_creation(wait) && is_child_of_creation(send), "{wait}\n{send}");
    assert_eq!((wait.end, wait.links.len()), (send.start, 0));
    let links: Vec<_> =
        send.links.iter().map(|link| (link.trace_id.as_str(), link.span_id.as_str())).collect();
    assert_eq!(links, [(TRACE, CREATED)]);
    assert_eq!((send.service.as_str(), &send.error), ("outbox-relay", &None));
    let about = json!({
        "messaging.system": "kafka",
        "messaging.destination.name": "alpha",
        "messaging.destination.partition.id": record.partition.to_string(),
        "messaging.message.id": told.id.to_string(),
        "messaging.kafka.message.key": "told",
    });
    assert_eq!(json!(wait.attributes), about);
    let mut sent = about;
    sent["messaging.operation.name"] = json!("send");
    sent["messaging.operation.type"] = json!("send");
    sent["messaging.kafka.offset"] = json!(record.offset);
    assert_eq!(json!(send.attributes), sent);
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_an_error_and_what_is_released_is_sent() -> anyhow::Result<()> {
    let (scene, collector) = (Scene::set().await?, Collector::start().await?);
    scene.create_topic("compacted", 1, &[("cleanup.policy", "compact")]).await?;
    scene.create_topic("alpha.outbox.dlq", 1, &[]).await?;
    let relay = traced(&scene, &collector)?;
    let (app, mut records) = (PgPool::connect_with(scene.writer()?).await?, scene.records()?);
    // The relay refuses the first: there is no such partition. Kafka refuses the last: it needs a key.
    let nowhere = Event { partition: Some(99), ..sampled("alpha", "k", 1) };
    let keyless = Event { key: None, ..sampled("compacted", "k", 1) };
    append(&app, vec![nowhere, sampled("alpha", "k", 2), keyless]).await?;
    let refused = |spans: &[Span], name: &str| {
        let mut errors = spans.iter().filter(|span| span.name == name && span.error.is_some()).cloned();
        errors.find(|span| span.kind == Kind::Client && is_child_of_creation(span))
    };
    let by_relay = collector.wait("the relay's refusal", |spans| refused(spans, "send alpha")).await?;
    assert_eq!(by_relay.text("error.type"), Some("NoPartition"));
    assert_eq!(by_relay.text("messaging.destination.partition.id"), Some("99"));
    assert!(by_relay.error.as_deref().is_some_and(|error| error.contains("no partition 99")), "{by_relay:?}");
    let by_kafka = collector.wait("Kafka's refusal", |spans| refused(spans, "send compacted")).await?;
    assert_eq!(by_kafka.text("error.type"), Some("InvalidRecord"));
    assert_eq!(by_kafka.attributes.get("messaging.kafka.offset"), None);
    let is_sent = |spans: &[Span], name: &str| {
        spans.iter().filter(|span| span.name == name && span.error.is_none()).count() == 1
    };
    let copied = |spans: &[Span]| is_sent(spans, "send alpha.outbox.dlq").then_some(());
    collector.wait("the copy", copied).await?;

    relay.says("keys held: 1").await?;
    assert!(!is_sent(&collector.spans(), "send alpha"), "the second waits behind the first");
    let (released, said) = operator(&scene, &["release", "--topic", "alpha", "--key", "k"])?;
    assert!(released, "{said}");
    arrive(&mut records, "alpha", "k", &[2]).await?;
    collector.wait("the released one", |spans| is_sent(spans, "send alpha").then_some(())).await?;
    assert_eq!(relay.terminate().await?, Some(0));
    // One wait for each sending, but none for the copy.
    let spans = collector.spans();
    let count = |is: &dyn Fn(&Span) -> bool| spans.iter().filter(|span| is(span)).count();
    let sent = count(&|span| span.name == "send alpha" || span.name == "send compacted");
    assert_eq!(count(&|span| span.name == "wait outbox"), sent);
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_holds_nothing_up() -> anyhow::Result<()> {
    let (scene, hole) = (Scene::set().await?, Collector::black_hole().await?);
    let relay = traced(&scene, &hole)?;
    let app = PgPool::connect_with(scene.writer()?).await?;
    // More spans than are kept for a collector.
    for page in 0..5 {
        let events = (0..1_000).map(|number| sampled("alpha", &format!("k{number}"), page));
        append(&app, events.collect()).await?;
    }
    scene.drained(WITHIN).await?;
    relay.publishes(5_000.0, WITHIN).await?;
    until("something is exported", WITHIN, || async { Ok((hole.attempts() > 0).then_some(())) }).await?;
    // The rest is exported in vain when it ends.
    assert_eq!(relay.terminate().await?, Some(0));
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_collector_a_sampled_event_is_an_exemplar() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let relay = scene.relay("relay")?;
    relay.says("publishing").await?;
    let app = PgPool::connect_with(scene.writer()?).await?;
    let mut records = Records::of(&scene.servers.kafka, &scene.prefix, &[("gamma", 1)])?;
    append(&app, vec![event("gamma", "k", 1, b"v".to_vec())]).await?;
    relay.publishes(1.0, WITHIN).await?;
    let is_exemplar = |text: &str| text.contains(&format!("trace_id=\"{TRACE}\""));
    assert!(!is_exemplar(&relay.openmetrics().await?));
    append(&app, vec![event("gamma", "k", 2, b"v".to_vec()), sampled("gamma", "k", 3)]).await?;
    arrive(&mut records, "gamma", "k", &[1, 2, 3]).await?;
    relay.publishes(3.0, WITHIN).await?;
    let text = relay.openmetrics().await?;
    assert!(is_exemplar(&text), "{text}");
    scene.end()
}

//! In which trace what a consumer does is shown. Each scenario runs in a process of its own, because a process has one
//! place that its spans go to; the test reads what was exported.

use std::env;

use anyhow::{Context as _, ensure};
use outbox::Headers;
use prost::Name as _;
use rdkafka::message::{Header, OwnedHeaders};
use telemetry::{LogArgs, LogFormat};
use testkit::{Collector, Kind, Span, until};
use uuid::Uuid;

use crate::scene::{NOTES, Note, Scene, WITHIN, Worker, event_headers};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Runs a scenario and returns its spans.
async fn observe(scenario: &str) -> anyhow::Result<Vec<Span>> {
    let collector = Collector::start().await?;
    let status = tokio::process::Command::new(env::current_exe()?)
        .args([&format!("spans::{scenario}"), "--exact", "--ignored"])
        .env(ENDPOINT, collector.endpoint())
        .env_remove("OTEL_TRACES_SAMPLER")
        .kill_on_drop(true)
        .status()
        .await?;
    ensure!(status.success(), "{scenario} ended with {status}");
    Ok(collector.spans())
}

/// What exports spans in a scenario; nothing outside of [`observe`].
fn telemetry() -> anyhow::Result<Option<telemetry::Guard>> {
    if env::var_os(ENDPOINT).is_none() {
        return Ok(None);
    }
    Ok(Some(telemetry::init("tests", "1.2.3", &LogArgs { log_format: LogFormat::Json })?))
}

/// The trace in which the event with this number was created.
fn trace(number: u8) -> String {
    format!("{number:032x}")
}

/// The span in which the event with this number was created.
fn creation(number: u8) -> String {
    format!("{number:016x}")
}

/// The headers of an event with this number, whose trace may be sampled.
fn created(number: u8, is_sampled: bool) -> OwnedHeaders {
    let traceparent = format!("00-{}-{}-0{}", trace(number), creation(number), u8::from(is_sampled));
    event_headers(&Uuid::now_v7().to_string(), &Note::full_name())
        .insert(Header { key: "traceparent", value: Some(&traceparent) })
}

async fn send(scene: &Scene, key: &str, text: &str, headers: OwnedHeaders) -> anyhow::Result<()> {
    scene.send_raw(NOTES, Some(key), Some(text.as_bytes()), headers).await
}

/// Waits until a sample of the worker is shown.
async fn shows(worker: &Worker, sample: &str) -> anyhow::Result<()> {
    until(sample, WITHIN, || async { Ok(worker.metrics.text().contains(sample).then_some(())) }).await
}

fn named<'s>(spans: &'s [Span], name: &str) -> Vec<&'s Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// The spans that process the event with this number in the trace of its creation, in their order.
fn processed(spans: &[Span], number: u8) -> Vec<&Span> {
    let mut processed = named(spans, "process notes");
    processed.retain(|span| span.trace_id == trace(number));
    for span in &processed {
        assert_eq!(span.parent_span_id, Some(creation(number)), "{span}");
        assert!(is_linked(span, number), "{span}");
        assert_eq!(span.kind, Kind::Consumer);
    }
    processed
}

/// The spans that process this event and are no part of its trace.
fn apart(spans: &[Span], number: u8) -> Vec<&Span> {
    let mut apart = named(spans, "process notes");
    apart.retain(|span| is_linked(span, number) && span.trace_id != trace(number));
    for span in &apart {
        assert_eq!(span.parent_span_id, None, "{span}");
    }
    apart
}

fn is_linked(span: &Span, number: u8) -> bool {
    span.links.iter().any(|link| link.trace_id == trace(number) && link.span_id == creation(number))
}

/// The names of what happened within a span, each once.
fn within<'s>(spans: &'s [Span], parent: &Span) -> Vec<&'s str> {
    let children = spans.iter().filter(|span| span.parent_span_id.as_ref() == Some(&parent.span_id));
    let mut names: Vec<&str> = children.map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a scenario"]
async fn a_batch_and_one_alone() -> anyhow::Result<()> {
    let Some(_guard) = telemetry()? else { return Ok(()) };
    let scene = Scene::set().await?;
    for number in 1..=4 {
        send(&scene, "a", &format!("a{number}"), created(number, number < 4)).await?;
    }
    let worker = scene.worker().await?;
    scene.took_effect(4).await?;
    send(&scene, "b", "b1", created(5, true)).await?;
    scene.took_effect(5).await?;
    shows(&worker, r#"consumer_records_total{group="notes",topic="notes"} 5"#).await?;
    let exemplar = format!(r#"# {{trace_id="{}"}}"#, trace(5));
    let shown = worker.metrics.openmetrics();
    for metric in ["consumer_delivery_duration", "consumer_batch_duration"] {
        let has_exemplar = |line: &str| line.starts_with(metric) && line.contains(&exemplar);
        assert!(shown.lines().any(has_exemplar), "{metric} without {exemplar}: {shown}");
    }
    worker.stop().await
}

#[tokio::test]
async fn a_record_is_processed_in_the_trace_of_its_event() -> anyhow::Result<()> {
    let spans = observe("a_batch_and_one_alone").await?;
    let batches = named(&spans, "process batch");
    let [batch] = batches[..] else { panic!("one batch of several: {batches:?}") };
    assert_eq!((batch.parent_span_id.as_deref(), batch.kind, &batch.error), (None, Kind::Consumer, &None));
    assert_eq!(batch.attributes.get("messaging.batch.message_count"), Some(&4.into()));
    assert_eq!(batch.text("messaging.consumer.group.name"), Some("notes"));
    assert_eq!(batch.links.len(), 3, "the sampled ones");
    assert!((1..=3).all(|number| is_linked(batch, number)), "{batch}");
    let shared = ["COMMIT", "INSERT inbox.message SELECT", "UPDATE inbox.fence"];
    let of_batch = within(&spans, batch);
    assert!(shared.iter().all(|sql| of_batch.contains(sql)), "{of_batch:?}");

    for number in 1..=3 {
        let all = processed(&spans, number);
        let [span] = all[..] else { panic!("one span for {number}: {all:?}") };
        assert!(span.is_linked_to(batch), "{span}");
        assert_eq!(span.error, None);
        for (name, value) in [
            ("messaging.system", "kafka"),
            ("messaging.operation.name", "process"),
            ("messaging.operation.type", "process"),
            ("messaging.destination.name", "notes"),
            ("messaging.destination.partition.id", "0"),
            ("messaging.kafka.message.key", "a"),
            ("messaging.consumer.group.name", "notes"),
        ] {
            assert_eq!(span.text(name), Some(value), "{name}");
        }
        assert!(span.text("messaging.message.id").is_some_and(|id| Uuid::parse_str(id).is_ok()));
        assert_eq!(span.attributes.get("messaging.kafka.offset"), Some(&(number - 1).into()));
        assert!(within(&spans, span).contains(&"INSERT effect"));
        let commit = spans
            .iter()
            .find(|sql| sql.name == "COMMIT" && sql.parent_span_id.as_ref() == Some(&batch.span_id));
        assert!(commit.is_some_and(|commit| span.end >= commit.end), "it ends with the commit");

        let mut waits = named(&spans, "wait notes");
        waits.retain(|span| span.trace_id == trace(number));
        let [wait] = waits[..] else { panic!("one wait for {number}: {waits:?}") };
        assert_eq!((wait.parent_span_id.as_ref(), wait.kind), (Some(&creation(number)), Kind::Internal));
        assert!(wait.start <= wait.end && wait.end <= span.start, "before it is processed");
    }
    assert!(spans.iter().all(|span| span.trace_id != trace(4)), "what is not sampled has no spans");
    assert!(named(&spans, "process notes").len() == 4);

    let all = processed(&spans, 5);
    let [alone] = all[..] else { panic!("one span for one alone: {all:?}") };
    assert_eq!(alone.links.len(), 1, "no batch");
    let of_alone = within(&spans, alone);
    assert!(["COMMIT", "INSERT effect"].iter().all(|sql| of_alone.contains(sql)), "{of_alone:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a scenario"]
async fn a_second_delivery() -> anyhow::Result<()> {
    let Some(_guard) = telemetry()? else { return Ok(()) };
    let scene = Scene::set().await?;
    let worker = scene.worker().await?;
    let headers = created(1, true);
    send(&scene, "a", "a1", headers.clone()).await?;
    scene.took_effect(1).await?;
    send(&scene, "a", "a1", headers).await?;
    shows(&worker, r#"consumer_repeats_total{group="notes",topic="notes"} 1"#).await?;
    let headers = created(2, false);
    send(&scene, "a", "a2", headers.clone()).await?;
    send(&scene, "a", "a2", headers).await?;
    shows(&worker, r#"consumer_repeats_total{group="notes",topic="notes"} 2"#).await?;
    worker.stop().await
}

#[tokio::test]
async fn a_repeat_is_linked_and_not_merged() -> anyhow::Result<()> {
    let spans = observe("a_second_delivery").await?;
    let first = processed(&spans, 1);
    assert_eq!(first.len(), 1, "once in its trace: {first:?}");
    assert_eq!(first[0].attributes.get("orderly.repeat"), None);
    let repeats = apart(&spans, 1);
    let [repeat] = repeats[..] else { panic!("one repeat: {repeats:?}") };
    assert_eq!(repeat.attributes.get("orderly.repeat"), Some(&true.into()));
    assert_eq!(repeat.error, None);
    assert_eq!(spans.iter().filter(|span| span.name == "wait notes").count(), 1);
    assert_eq!(named(&spans, "process notes").len(), 2, "nothing of what is not sampled");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a scenario"]
async fn failures_and_replays() -> anyhow::Result<()> {
    let Some(_guard) = telemetry()? else { return Ok(()) };
    let scene = Scene::set().await?;
    let worker = scene.worker().await?;
    scene.break_for("a1", "poison").await?;
    send(&scene, "a", "a1", created(1, true)).await?;
    scene.has_letters(1, "parked").await?;
    send(&scene, "a", "a2", created(2, true)).await?;
    scene.has_letters(1, "held").await?;
    scene.replay().await?;
    // The copy of what failed anew says where: behind the headers of the record, which stay.
    let copies = "select headers from outbox.event where topic = 'notes.notes.dlq' order by id";
    let copies: Vec<Vec<u8>> = sqlx::query_scalar(copies).fetch_all(&scene.owner).await?;
    let [first, again] = &copies[..] else { anyhow::bail!("two copies, not {}", copies.len()) };
    let traceparents = |headers: &[u8]| -> anyhow::Result<Vec<String>> {
        let headers = Headers::decode(headers)?;
        let values = headers.iter().filter(|(name, _)| *name == "traceparent");
        values.map(|(_, value)| Ok(std::str::from_utf8(value.context("a value")?)?.to_owned())).collect()
    };
    let (first, again) = (traceparents(first)?, traceparents(again)?);
    assert!(first.len() == 1 && first[0].contains(&trace(1)), "{first:?}");
    assert!(again.len() == 2 && again[0] == first[0] && !again[1].contains(&trace(1)), "{again:?}");

    scene.mend().await?;
    scene.break_for("a1", "event").await?;
    scene.replay().await?;
    scene.took_effect(2).await?;
    worker.stop().await
}

#[tokio::test]
async fn what_fails_says_so_and_a_replay_is_linked_and_not_merged() -> anyhow::Result<()> {
    let spans = observe("failures_and_replays").await?;
    let attempts = processed(&spans, 1);
    assert_eq!(attempts.len(), 2, "with its batch and apart: {attempts:?}");
    for attempt in attempts {
        assert_eq!(attempt.text("error.type"), Some("poison"));
        assert!(
            attempt.error.as_ref().is_some_and(|error| error.contains("field text is a1")),
            "{attempt:?}"
        );
    }
    let held = processed(&spans, 2);
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!(held[0].text("error.type"), Some("held"));
    assert!(held[0].error.is_some());

    let replays = apart(&spans, 1);
    let [failed, done] = replays[..] else { panic!("two replays: {replays:?}") };
    assert!(replays.iter().all(|replay| replay.text("orderly.replay.id").is_some()));
    assert_eq!(failed.text("error.type"), Some("poison"));
    assert!(failed.error.is_some() && done.error.is_none());
    let within = within(&spans, done);
    assert!(
        ["COMMIT", "INSERT effect", "create notes"].iter().all(|name| within.contains(name)),
        "{within:?}"
    );
    assert_eq!(apart(&spans, 2).len(), 1, "and what was held behind it");
    assert_eq!(spans.iter().filter(|span| span.name == "wait notes").count(), 2, "each has waited once");
    Ok(())
}

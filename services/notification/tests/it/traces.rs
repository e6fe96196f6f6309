//! A delivery belongs to the trace of the order, to the last attempt.

use consumer::{Message, dispatch::Dispatch as _};
use notification::domain::{Channel, Kind};
use opentelemetry::trace::SpanKind;
use prost::{Message as _, Name as _};
use proto::notification::v1::NotificationRequested;
use telemetry::SpanContext;
use testkit::recorder::{Recorder, attribute, has_failed, traceparent};
use tracing::{Instrument as _, info_span};
use uuid::Uuid;

use crate::{
    endpoint::Reply,
    scene::{ADDRESS, SECRET, Scene, record},
    smtp::Answer,
};

/// Has this scene's order told about, in the span of a record whose parent is the caller's.
async fn process(scene: &Scene, caller: &SpanContext, kind: Kind) -> anyhow::Result<()> {
    let span = info_span!("process");
    telemetry::span::set_parent(&span, Some(caller));
    scene.ask(kind).instrument(span).await
}

/// In which span each notification was requested, in the order of requests.
async fn stored(scene: &Scene) -> anyhow::Result<Vec<Option<String>>> {
    let sql = "select traceparent from notifications order by position";
    Ok(sqlx::query_scalar(sql).fetch_all(&scene.pool).await?)
}

#[tokio::test]
async fn every_call_of_a_webhook_is_in_the_trace_of_its_request() -> anyhow::Result<()> {
    let (recorder, caller) = (Recorder::start(), Recorder::caller());
    let scene = Scene::set_webhook(&[Reply::Status("503 Service Unavailable")]).await?;
    process(&scene, &caller, Kind::OrderConfirmed).await?;
    for _ in 0..2 {
        scene.all_due().await?;
        assert_eq!(scene.dispatch().await?, 1);
    }
    let process = recorder.spans(&caller, "process").remove(0).span_context;
    assert_eq!(stored(&scene).await?, [Some(traceparent(&process))]);
    let posts = recorder.spans(&caller, "POST");
    let of = |name| posts.iter().map(|post| attribute(post, name)).collect::<Vec<_>>();
    assert_eq!(of("http.response.status_code"), ["503", "204"]);
    assert_eq!(of("error.type"), ["503", ""]);
    assert_eq!(of("attempt"), ["1", "2"]);
    assert_eq!(of("server.address"), ["127.0.0.1"; 2]);
    assert_eq!(of("server.port"), [scene.endpoint.1.port().to_string(), scene.endpoint.1.port().to_string()]);
    assert_eq!(posts.iter().map(has_failed).collect::<Vec<_>>(), [true, false]);
    for post in &posts {
        assert_eq!((post.parent_span_id, &post.span_kind), (process.span_id(), &SpanKind::Client));
    }
    let told: Vec<String> = posts.iter().map(|post| traceparent(&post.span_context)).collect();
    let calls = scene.endpoint.0.calls();
    assert_eq!(calls.iter().map(|call| call.header("traceparent")).collect::<Vec<_>>(), told);
    // What has become of it was written in the same trace.
    assert_eq!(recorder.spans(&caller, "settle delivery").len(), 2);
    Ok(())
}

#[tokio::test]
async fn every_email_is_in_the_trace_of_its_request() -> anyhow::Result<()> {
    let (recorder, caller) = (Recorder::start(), Recorder::caller());
    let scene = Scene::set(&[Answer::Reply("451 try again later")]).await?;
    scene.choose_email().await?;
    process(&scene, &caller, Kind::OrderConfirmed).await?;
    for _ in 0..2 {
        scene.all_due().await?;
        assert_eq!(scene.dispatch().await?, 1);
    }
    let process = recorder.spans(&caller, "process").remove(0).span_context;
    let mails = recorder.spans(&caller, "send mail");
    assert_eq!(mails.iter().map(has_failed).collect::<Vec<_>>(), [true, false]);
    assert_eq!(mails.iter().map(|mail| attribute(mail, "error.type")).collect::<Vec<_>>(), ["451", ""]);
    for mail in &mails {
        assert_eq!((mail.parent_span_id, &mail.span_kind), (process.span_id(), &SpanKind::Client));
        assert_eq!(attribute(mail, "server.address"), "127.0.0.1");
        assert_eq!(attribute(mail, "order_id"), scene.order_id.to_string());
    }
    Ok(())
}

#[tokio::test]
async fn a_line_alone_is_written_in_its_own_span() -> anyhow::Result<()> {
    let (recorder, caller) = (Recorder::start(), Recorder::caller());
    let scene = Scene::set(&[]).await?;
    process(&scene, &caller, Kind::OrderConfirmed).await?;
    assert_eq!(scene.dispatch().await?, 1);
    let process = recorder.spans(&caller, "process").remove(0).span_context;
    let lines = recorder.spans(&caller, "deliver log");
    assert_eq!(lines.len(), 1);
    assert_eq!((lines[0].parent_span_id, &lines[0].span_kind), (process.span_id(), &SpanKind::Internal));
    assert!(recorder.linked(&caller, "deliver batch").is_empty());
    Ok(())
}

#[tokio::test]
async fn lines_together_are_each_in_their_own_trace() -> anyhow::Result<()> {
    let (recorder, callers) = (Recorder::start(), [Recorder::caller(), Recorder::caller()]);
    let scene = Scene::set(&[]).await?;
    // As a batch of the consumer, so that each record's span is made from what it carries.
    scene.handle_all(&callers.each_ref().map(|caller| of_another_order(&scene, caller))).await?;
    let stored = stored(&scene).await?;
    assert_eq!(scene.dispatch().await?, 2);
    for (caller, stored) in callers.iter().zip(stored) {
        let lines = recorder.spans(caller, "deliver log");
        assert_eq!(lines.len(), 1);
        let requested = telemetry::propagation::read(stored.as_deref(), None).expect("a span");
        assert_eq!(requested.trace_id(), caller.trace_id());
        assert_eq!(lines[0].parent_span_id, requested.span_id());
        let batches = recorder.linked(caller, "deliver batch");
        assert_eq!((batches.len(), batches[0].links.len()), (1, 2));
        assert_eq!(lines[0].links[0].span_context, batches[0].span_context);
    }
    Ok(())
}

fn of_another_order(scene: &Scene, caller: &SpanContext) -> Message {
    let order_id = Uuid::now_v7();
    let event =
        NotificationRequested { order_id: order_id.to_string(), ..scene.request(Kind::OrderConfirmed) };
    let mut message = record(&NotificationRequested::full_name(), order_id, event.encode_to_vec());
    message.headers.push_text("traceparent", traceparent(caller));
    message
}

#[tokio::test]
async fn a_replay_is_delivered_in_its_own_trace() -> anyhow::Result<()> {
    let (recorder, first, second) = (Recorder::start(), Recorder::caller(), Recorder::caller());
    let scene = Scene::set_webhook(&[Reply::Status("410 Gone"); 5]).await?;
    process(&scene, &first, Kind::OrderConfirmed).await?;
    for _ in 0..5 {
        scene.let_days_pass().await?;
        scene.all_due().await?;
        assert_eq!(scene.dispatch().await?, 1);
    }
    process(&scene, &second, Kind::OrderConfirmed).await?;
    assert_eq!(scene.dispatch().await?, 1);
    assert_eq!(recorder.spans(&first, "POST").len(), 5);
    assert_eq!(recorder.spans(&second, "POST").len(), 1);
    Ok(())
}

#[tokio::test]
async fn no_span_and_no_log_line_shows_where_a_customer_is_told() -> anyhow::Result<()> {
    let (recorder, caller) = (Recorder::start(), Recorder::caller());
    let mut scene =
        Scene::set(&[Answer::Reply("550 no such mailbox ann@example.com"), Answer::HangUp]).await?;
    scene.choose_email().await?;
    process(&scene, &caller, Kind::OrderConfirmed).await?;
    for _ in 0..2 {
        scene.all_due().await?;
        assert_eq!(scene.dispatch().await?, 1);
    }
    let port = scene.endpoint.1.port();
    let urls =
        [format!("http://127.0.0.1:{port}/hidden?token=hidden"), "http://127.0.0.1:1/hidden".to_owned()];
    scene.endpoint.0.will(&[Reply::Status("410 Gone")]);
    for url in &urls {
        scene.order_id = Uuid::now_v7();
        scene.choose_webhook(url).await?;
        process(&scene, &caller, Kind::OrderConfirmed).await?;
        assert_eq!(scene.dispatch().await?, 1);
    }
    let channel: Channel =
        scene.emails.claim(1).await?.first().map_or(Ok(Channel::Log), |mail| mail.contact.channel())?;
    tracing::trace!(?channel, "as somebody may write it");
    let said = recorder.everything(&caller) + &scene.shown.text();
    for expected in ["send mail", "POST", "not delivered; trying again", "as somebody may write it"] {
        assert!(said.contains(expected), "{expected:?} is missing");
    }
    for secret in [ADDRESS, "hidden", SECRET] {
        let line = said.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret:?} is shown");
    }
    Ok(())
}

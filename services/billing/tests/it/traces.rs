//! A payment belongs to the trace of the order, to the last call.

use billing::domain::Command;
use consumer::dispatch::Dispatch as _;
use opentelemetry::trace::SpanKind;
use telemetry::SpanContext;
use testkit::recorder::{Recorder, attribute, has_failed, traceparent};
use tracing::{Instrument as _, info_span};
use uuid::Uuid;

use crate::scene::{CHARGED, DECLINED, REFUNDED, Scene, UNAVAILABLE};

/// Does what a record has asked for, in its span, whose parent is the caller's.
async fn process<T>(caller: &SpanContext, work: impl Future<Output = T>) -> T {
    let span = info_span!("process");
    telemetry::span::set_parent(&span, Some(caller));
    work.instrument(span).await
}

/// In which span the payment was requested.
async fn stored(scene: &Scene) -> anyhow::Result<String> {
    Ok(sqlx::query_scalar("SELECT traceparent FROM payments").fetch_one(&scene.pool).await?)
}

#[tokio::test]
async fn every_call_for_a_payment_is_in_the_trace_of_its_request() -> anyhow::Result<()> {
    let (recorder, caller) = (Recorder::start(), Recorder::caller());
    let scene = Scene::set(&[UNAVAILABLE, CHARGED]).await?;
    process(&caller, scene.ask_for_payment()).await?;
    assert_eq!((scene.dispatch().await?, scene.dispatch().await?), (1, 1));

    let process = recorder.spans(&caller, "process").remove(0).span_context;
    assert_eq!(stored(&scene).await?, traceparent(&process));
    let charges = recorder.spans(&caller, "charge payment");
    let attempts: Vec<String> = charges.iter().map(|charge| attribute(charge, "attempt")).collect();
    assert_eq!(attempts, ["1", "2"]);
    let posts = recorder.spans(&caller, "POST");
    assert_eq!(posts.len(), 2);
    for (charge, post) in charges.iter().zip(&posts) {
        assert_eq!(charge.parent_span_id, process.span_id(), "attempts are siblings");
        assert_eq!(attribute(charge, "order_id"), scene.order_id.to_string());
        assert_eq!(post.parent_span_id, charge.span_context.span_id());
        assert_eq!(post.span_kind, SpanKind::Client);
        assert_eq!(attribute(post, "http.request.method"), "POST");
        assert_eq!(attribute(post, "server.address"), "127.0.0.1");
        let url = format!("http://127.0.0.1:{}/v1/charges", attribute(post, "server.port"));
        assert_eq!(attribute(post, "url.full"), url);
    }
    assert_eq!(posts.iter().map(has_failed).collect::<Vec<_>>(), [true, false]);
    assert_eq!(charges.iter().map(has_failed).collect::<Vec<_>>(), [true, false]);
    let of = |name| posts.iter().map(|post| attribute(post, name)).collect::<Vec<_>>();
    assert_eq!(of("http.response.status_code"), ["503", "201"]);
    assert_eq!(of("error.type"), ["503", ""]);
    assert_eq!(of("http.request.resend_count"), ["", "1"]);
    // What the provider was told is the span of the call.
    let told: Vec<String> = posts.iter().map(|post| traceparent(&post.span_context)).collect();
    assert_eq!(scene.script.traceparents(), told);
    // And what is announced follows from the attempt that was answered.
    let announced = recorder.spans(&caller, "create payment-results");
    assert_eq!(announced.len(), 1);
    assert_eq!(announced[0].parent_span_id, charges[1].span_context.span_id());
    Ok(())
}

#[tokio::test]
async fn a_refusal_in_the_providers_words_is_an_answer() -> anyhow::Result<()> {
    let (recorder, caller) = (Recorder::start(), Recorder::caller());
    let scene = Scene::set(&[DECLINED]).await?;
    process(&caller, scene.ask_for_payment()).await?;
    scene.dispatch().await?;
    let post = recorder.spans(&caller, "POST").remove(0);
    assert_eq!(attribute(&post, "http.response.status_code"), "402");
    assert!(!has_failed(&post) && attribute(&post, "error.type").is_empty(), "{post:?}");
    Ok(())
}

#[tokio::test]
async fn a_refund_is_in_the_trace_of_who_requests_it() -> anyhow::Result<()> {
    let (recorder, first, second) = (Recorder::start(), Recorder::caller(), Recorder::caller());
    let scene = Scene::set(&[CHARGED, REFUNDED]).await?;
    process(&first, scene.ask_for_payment()).await?;
    scene.dispatch().await?;
    process(&second, scene.ask_for_refund()).await?;
    scene.dispatch().await?;
    let process = recorder.spans(&second, "process").remove(0).span_context;
    assert_eq!(stored(&scene).await?, traceparent(&process));
    let refund = recorder.spans(&second, "refund payment").remove(0);
    assert_eq!(refund.parent_span_id, process.span_id());
    assert!(recorder.spans(&first, "refund payment").is_empty());
    Ok(())
}

#[tokio::test]
async fn a_shared_transaction_is_linked_with_every_payment_of_it() -> anyhow::Result<()> {
    let (recorder, first, second) = (Recorder::start(), Recorder::caller(), Recorder::caller());
    let mut scene = Scene::set(&[]).await?;
    let mut payments = Vec::new();
    for caller in [&first, &second] {
        (scene.payment_id, scene.order_id) = (Uuid::now_v7(), Uuid::now_v7());
        process(caller, scene.ask_for_payment()).await?;
        payments.push(scene.payment_id);
    }
    let charged = Command::Charged { reference: "ch_1".to_owned() };
    let (one, other) = tokio::join!(
        process(&first, scene.payments.settle(payments[0], &charged)),
        process(&second, scene.payments.settle(payments[1], &charged)),
    );
    one?;
    other?;
    for caller in [&first, &second] {
        let batches = recorder.linked(caller, "settle batch");
        assert_eq!((batches.len(), batches[0].links.len()), (1, 2));
        assert_ne!(batches[0].span_context.trace_id(), caller.trace_id(), "linked, not merged");
        // Each payment says where its transaction was, and announces in its own trace.
        let settled = recorder.spans(caller, "process").pop().expect("a span");
        assert_eq!(settled.links[0].span_context, batches[0].span_context);
        let announced = recorder.spans(caller, "create payment-results");
        assert_eq!(announced[0].parent_span_id, settled.span_context.span_id());
    }
    Ok(())
}

#[tokio::test]
async fn no_span_and_no_log_line_shows_a_token() -> anyhow::Result<()> {
    let (recorder, caller) = (Recorder::start(), Recorder::caller());
    let scene = Scene::set(&[UNAVAILABLE, (200, "ok"), (400, r#"{"code":"unknown_token"}"#)]).await?;
    process(&caller, scene.ask_for_payment()).await?;
    for _ in 0..3 {
        for intent in scene.due().await? {
            tracing::trace!(?intent, "as somebody may write it");
            scene.payments.perform(intent).await?;
        }
    }
    let said = recorder.everything(&caller);
    for expected in ["charge payment", "outcome unknown", "payment changed", "as somebody may write it"] {
        assert!(said.contains(expected), "{expected:?} is missing");
    }
    assert!(!said.contains("tok_ok"), "{said}");
    assert!(!scene.metrics.text().contains("tok_ok"));
    Ok(())
}

//! What a dispatcher has given up: a dead letter like others, behind which nothing waits.

use consumer::{
    Attempts, Message, Metrics, Undelivered,
    dead_letters::{Filter, replay},
};
use outbox::{Headers, UnitOfWork};
use prost::Name as _;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::scene::{ACT, NOTES, Note, SUBSCRIPTION, Scene};

/// Parks the only record that was processed so far, which says `text`.
async fn give_up(scene: &Scene, key: &str, text: &str) -> anyhow::Result<()> {
    let id: String = sqlx::query_scalar("select id from inbox.message").fetch_one(&scene.owner).await?;
    let mut headers = Headers::default();
    for (name, value) in [("ce_source", "/tests"), ("ce_id", &id), ("ce_type", &Note::full_name())] {
        headers.push_text(name, value);
    }
    let record = Message {
        topic: NOTES.to_owned(),
        partition: 1,
        offset: 0,
        key: Some(key.into()),
        headers,
        payload: Some(text.into()),
        timestamp: None,
        source: String::new(),
        id: Uuid::nil(),
        event_type: String::new(),
        span: None,
    };
    let shown = telemetry::Metrics::new();
    let metrics = Metrics::register(&shown, &SUBSCRIPTION);
    let undelivered = Undelivered::new(&SUBSCRIPTION, &scene.kafka, metrics, "1.2.3");
    let attempts =
        Attempts { count: 7, first_at: OffsetDateTime::UNIX_EPOCH, error: "nobody answers".to_owned() };
    let mut work = UnitOfWork::begin(&scene.pool("app", 1).await?).await?;
    let (copies, parked) = undelivered.park(&mut work, &record, attempts).await?;
    assert_eq!(copies.len(), 1);
    work.commit(copies).await?;
    let counted = |count| {
        format!(r#"consumer_dead_letters_total{{group="notes",topic="notes",kind="undelivered"}} {count}"#)
    };
    assert!(shown.text().contains(&counted(0)), "it may be rolled back as yet");
    parked.report();
    assert!(shown.text().contains(&counted(1)), "{}", shown.text());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_has_had_its_turn_among_the_records_of_its_key() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let worker = scene.worker().await?;
    scene.send(NOTES, "a", "a1").await?;
    scene.took_effect(1).await?;
    give_up(&scene, "a", "a1").await?;
    scene.send(NOTES, "a", "a2").await?;
    assert_eq!(scene.took_effect(2).await?, ["a1", "a2"], "nothing waits");

    scene.break_for("a3", "poison").await?;
    scene.send(NOTES, "a", "a3").await?;
    scene.send(NOTES, "a", "a4").await?;
    scene.has_letters(1, "held").await?;
    scene.mend().await?;
    let poison = Filter { kind: Some("poison".to_owned()), ..Filter::default() };
    let ordered = replay(&scene.operator, &poison, None, ACT).await?;
    scene.ended(ordered[0].id).await?;
    assert_eq!(scene.took_effect(4).await?, ["a1", "a2", "a3", "a4"]);
    assert_eq!(scene.number("select count(*) from inbox.key_hold").await?, 0);
    assert_eq!(scene.letters("parked").await?, 1, "what was given up is nobody's successor");

    let places = "select max(seq) from inbox.message";
    let before = scene.number(places).await?;
    let done = scene.replay().await?;
    assert_eq!((done.state.as_str(), done.replayed), ("done", 1));
    assert_eq!(scene.effects().await?, ["a1", "a2", "a3", "a4", "a1"]);
    assert_eq!(scene.number(places).await?, before, "its place is that of its turn");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_has_had_its_turn_also_when_its_replay_fails() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let worker = scene.worker().await?;
    scene.send(NOTES, "a", "a1").await?;
    scene.took_effect(1).await?;
    give_up(&scene, "a", "a1").await?;
    let places = "select max(seq) from inbox.message";
    let before = scene.number(places).await?;

    scene.break_for("a1", "poison").await?;
    let failed = scene.replay().await?;
    assert_eq!((failed.state.as_str(), failed.replayed), ("done", 0));
    let still = "select count(*) from inbox.dead_letter where kind = 'undelivered' and state = 'parked'
                 and replays = 1 and error like '%a1%'";
    assert_eq!(scene.number(still).await?, 1, "and the latest error is told");
    scene.send(NOTES, "a", "a2").await?;
    assert_eq!(scene.took_effect(2).await?, ["a1", "a2"], "nothing waits");
    let later = scene.number(places).await?;
    assert!(later > before);

    scene.mend().await?;
    let done = scene.replay().await?;
    assert_eq!((done.state.as_str(), done.replayed), ("done", 1));
    assert_eq!(scene.effects().await?, ["a1", "a2", "a1"]);
    let replayed = "select count(*) from inbox.dead_letter where kind = 'undelivered' and state = 'replayed'";
    assert_eq!(scene.number(replayed).await?, 1);
    let first = "select min(seq) from inbox.message";
    assert_eq!((scene.number(first).await?, scene.number(places).await?), (before, later), "its place stays");
    assert_eq!(scene.number("select count(*) from inbox.key_hold").await?, 0);
    worker.stop().await
}

//! What an operator does: replays with a rate, stops and resumes, discards; nothing twice, everything audited.

use std::{io::Write as _, time::Instant};

use consumer::dead_letters::{
    Filter, Selection, discard, groups, history, preview, progress, replay, results, resume, stop,
};
use testkit::until;
use uuid::Uuid;

use crate::scene::{ACT, NOTES, SKIPPING, Scene, WITHIN, notes};

/// Dead letters of records without a key's order, each another text.
async fn park(scene: &Scene, count: usize) -> anyhow::Result<()> {
    let texts: Vec<_> = (0..count).map(|number| (format!("k{number}"), format!("text-{number}"))).collect();
    sqlx::query("insert into broken select text, 'poison' from unnest($1::text[]) as text")
        .bind(texts.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>())
        .execute(&scene.owner)
        .await?;
    scene.send_all(SKIPPING, &texts).await?;
    scene.has_letters(count as i64, "parked").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_behind_a_discarded_letter_goes_on() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.break_for("a1", "poison").await?;
    scene.break_for("b1", "poison").await?;
    scene.send_all(NOTES, &notes(&["a"], 3)).await?;
    scene.send(NOTES, "b", "b1").await?;
    let worker = scene.worker().await?;
    scene.has_letters(2, "parked").await?;
    let all = Filter::default();
    let wanted = Selection { selected: 2, keys: 2, held: 2 };
    assert_eq!(preview(&scene.operator, &all).await?, wanted);
    let of_a = Filter { key: Some(b"a".to_vec()), ..Filter::default() };
    let discarded = discard(&scene.operator, &of_a, ACT).await?;
    assert_eq!((discarded.discarded, discarded.released), (1, 2));
    assert_eq!(scene.took_effect(2).await?, ["a2", "a3"], "without the broken one");
    let discarded = discard(&scene.operator, &all, ACT).await?;
    assert_eq!((discarded.discarded, discarded.released), (1, 0));
    assert_eq!(scene.number("select count(*) from inbox.key_hold").await?, 0);
    scene.send_all(NOTES, &notes(&["a", "b"], 1)).await?;
    scene.has_letters(2, "parked").await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_of_a_letter_is_audited() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let worker = scene.worker().await?;
    park(&scene, 1).await?;
    scene.replay().await?;
    scene.mend().await?;
    let done = scene.replay().await?;
    let id = results(&scene.operator, done.id).await?[0].dead_letter.expect("of a letter");
    let steps: Vec<_> =
        history(&scene.operator, id).await?.into_iter().map(|entry| (entry.action, entry.actor)).collect();
    let by_worker = format!("{}notes/1.2.3", scene.kafka.prefix);
    let wanted = [
        ("parked", by_worker.as_str()),
        ("replay", "tests"),
        ("dead-again", "tests"),
        ("replay", "tests"),
        ("replayed", "tests"),
    ];
    assert_eq!(steps, wanted.map(|(action, actor)| (action.to_owned(), actor.to_owned())));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_are_replayed_at_their_rate_stopped_and_resumed_each_once() -> anyhow::Result<()> {
    const LETTERS: usize = 10_000;
    let scene = Scene::set().await?;
    let first = scene.worker().await?;
    park(&scene, LETTERS).await?;
    let started = Instant::now();
    let listed = groups(&scene.operator, &Filter::default()).await?;
    let listing = started.elapsed();
    assert_eq!((listed.len(), listed[0].parked), (1, LETTERS as i64), "one error, whatever the text");
    scene.mend().await?;
    let slow = replay(&scene.operator, &Filter::default(), Some(50.0), ACT).await?.remove(0);
    assert_eq!(slow.selected, LETTERS as i64);
    let none = replay(&scene.operator, &Filter::default(), None, ACT).await?;
    assert!(none.is_empty(), "they are taken: {none:?}");
    let replayed = async || anyhow::Ok(progress(&scene.operator, &[slow.id]).await?.remove(0).replayed);
    let until_replayed = async |count: i64| {
        until("some are replayed", WITHIN, || async {
            Ok(Some(replayed().await?).filter(|now| *now >= count))
        })
        .await
    };
    let (first_count, started) = (until_replayed(60).await?, Instant::now());
    let rate = (until_replayed(160).await? - first_count) as f64 / started.elapsed().as_secs_f64();
    assert!(stop(&scene.operator, slow.id, ACT).await?);
    assert!(!stop(&scene.operator, slow.id, ACT).await?, "it is stopped already");
    let stopped = scene.ended(slow.id).await?;
    assert_eq!((stopped.state.as_str(), stopped.words.as_deref()), ("stopped", Some("because")));
    assert!(stopped.replayed < 1_000, "a rate of 50 a second: {}", stopped.replayed);
    writeln!(
        std::io::stderr(),
        "dead letters: {LETTERS} were listed in {} ms, and replayed at {rate:.1} a second of the 50 that were asked for",
        listing.as_millis()
    )?;
    // Its rate is no more than a bound from here on, and two workers are there to carry it out.
    sqlx::query("update inbox.replay set rate = null where id = $1")
        .bind(slow.id)
        .execute(&scene.owner)
        .await?;
    let second = scene.worker().await?;
    assert!(resume(&scene.operator, slow.id, ACT).await?);
    let done = scene.ended(slow.id).await?;
    assert_eq!((done.state.as_str(), done.replayed, done.left), ("done", LETTERS as i64, 0));
    assert_eq!(results(&scene.operator, slow.id).await?.len(), LETTERS);
    let mut effects = scene.effects().await?;
    effects.sort_unstable();
    effects.dedup();
    assert_eq!((effects.len(), scene.effects().await?.len()), (LETTERS, LETTERS), "each once");
    assert!(!resume(&scene.operator, Uuid::now_v7(), ACT).await?, "there is no such replay");
    first.stop().await?;
    second.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_cannot_be_committed_is_dead_again_and_holds_nothing_up() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let worker = scene.worker().await?;
    park(&scene, 2).await?;
    scene.mend().await?;
    scene.break_for("text-0", "deferred").await?;
    let done = scene.replay().await?;
    assert_eq!((done.selected, done.replayed, done.dead_again), (2, 1, 1));
    assert_eq!(scene.effects().await?, ["text-1"]);
    let group = groups(&scene.operator, &Filter::default()).await?.remove(0);
    assert!(group.error.contains("violates foreign key constraint"), "{}", group.error);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_this_installation_cannot_do_stops_and_can_be_left() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.break_for("a1", "poison").await?;
    scene.break_for("a2", "config").await?;
    scene.send_all(NOTES, &notes(&["a"], 3)).await?;
    let worker = scene.worker().await?;
    scene.has_letters(2, "held").await?;
    sqlx::raw_sql("delete from broken where text = 'a1'").execute(&scene.owner).await?;
    let stopped = scene.replay().await?;
    assert_eq!((stopped.state.as_str(), stopped.replayed, stopped.left), ("stopped", 1, 1));
    assert!(stopped.words.as_ref().is_some_and(|words| words.contains("missing")), "{stopped:?}");
    // What it has left is another's to take.
    let listed = groups(&scene.operator, &Filter::default()).await?;
    assert_eq!((listed.len(), listed[0].parked, listed[0].held), (1, 1, 1));
    assert_eq!(
        preview(&scene.operator, &Filter::default()).await?,
        Selection { selected: 1, keys: 1, held: 1 }
    );
    scene.mend().await?;
    let done = scene.replay().await?;
    assert_eq!((done.state.as_str(), done.replayed, done.left), ("done", 2, 0));
    assert_eq!(scene.effects().await?, ["a1", "a2", "a3"]);
    assert!(resume(&scene.operator, stopped.id, ACT).await?, "there is nothing left in it to do");
    assert_eq!(scene.ended(stopped.id).await?.state, "done");
    worker.stop().await
}

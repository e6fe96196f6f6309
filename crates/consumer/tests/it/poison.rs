//! One record among many that cannot be processed: all others take effect once, and it becomes a dead letter.

use std::io::Write as _;

use consumer::dead_letters::{Filter, behind, find, groups, letters};
use futures_util::TryStreamExt as _;
use outbox::Headers;
use prost::Name as _;
use rdkafka::message::OwnedHeaders;
use sqlx::Row as _;
use uuid::Uuid;

use crate::scene::{NOTES, Note, Scene, event_headers, notes};

/// One key for each record: nothing is to wait.
fn apart(count: usize) -> Vec<(String, String)> {
    (0..count).map(|number| (format!("key-{number}"), format!("text-{number}"))).collect()
}

/// Sends 500, of which the 250th fails in this way, and wants all others to take effect, and the letter to say why.
async fn one_of_500(how: &str, kind: &str, words: &str) -> anyhow::Result<i64> {
    let scene = Scene::set().await?;
    scene.break_for("text-250", how).await?;
    scene.send_all(NOTES, &apart(500)).await?;
    let worker = scene.worker().await?;
    let mut effects = scene.took_effect(499).await?;
    effects.sort_unstable();
    effects.dedup();
    assert_eq!(effects.len(), 499, "each once");
    assert!(!effects.contains(&"text-250".to_owned()), "what failed was taken back");
    scene.has_letters(1, "parked").await?;
    let group = groups(&scene.operator, &Filter::default()).await?.remove(0);
    assert_eq!((group.kind.as_str(), group.parked, group.held), (kind, 1, 0));
    assert!(group.error.contains(words), "{}", group.error);
    assert_eq!(group.event_type.as_deref(), Some("tests.v1.Note"));
    worker.stop().await?;
    let transactions = scene.number("select count(distinct transaction) from effect").await?;
    writeln!(
        std::io::stderr(),
        "poison: one of 500 ({how}), the others took effect in {transactions} transactions"
    )?;
    Ok(transactions)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_the_handler_refuses() -> anyhow::Result<()> {
    // Two partitions may have come in one batch or in several.
    let transactions = one_of_500("poison", "poison", "field text is text-250").await?;
    assert!(transactions <= 4, "{transactions} transactions: the others were not run one by one");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_the_handler_panics_at() -> anyhow::Result<()> {
    one_of_500("panic", "bug", "the handler panicked: a bug in the handler").await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_whose_statement_postgres_refuses() -> anyhow::Result<()> {
    one_of_500("data", "poison", "division by zero").await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_whose_effect_is_refused_at_the_commit_only() -> anyhow::Result<()> {
    let transactions = one_of_500("deferred", "poison", "violates foreign key constraint").await?;
    assert!(transactions <= 24, "{transactions} transactions: halves, not one by one");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_whose_handler_ignores_that_its_statement_failed() -> anyhow::Result<()> {
    one_of_500("swallow", "bug", "has ignored that a statement").await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_postgres_rolls_back_at_its_commit_is_not_taken_for_done() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.break_for("a1", "swallow").await?;
    scene.send(NOTES, "a", "a1").await?;
    let worker = scene.worker().await?;
    scene.has_letters(1, "parked").await?;
    scene.mend().await?;
    scene.replay().await?;
    assert_eq!(scene.effects().await?, ["a1"]);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_found_by_halves_is_found_from_left_to_right() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.break_for("a2", "deferred").await?;
    scene.send_all(NOTES, &notes(&["a", "b"], 8)).await?;
    let worker = scene.worker().await?;
    scene.has_letters(6, "held").await?;
    let effects = scene.took_effect(9).await?;
    let of_a: Vec<_> = effects.iter().filter(|text| text.starts_with('a')).collect();
    assert_eq!(of_a, ["a1"], "nothing right of it");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_again_is_parked_once() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.break_for("bad", "poison").await?;
    let old = Uuid::from_u128(1_500_000_000_000 << 80 | 0x7000_8000_0000_0000_0001).to_string();
    scene.send_raw(NOTES, Some("k"), None, OwnedHeaders::new()).await?;
    scene.send_raw(NOTES, Some("k"), None, OwnedHeaders::new()).await?;
    scene.send_raw(NOTES, None, None, event_headers(&old, &Note::full_name())).await?;
    scene.send(NOTES, "l", "bad").await?;
    let worker = scene.worker().await?;
    scene.has_letters(3, "parked").await?;
    scene.has_letters(1, "held").await?;
    worker.stop().await?;
    scene.forget_offsets().await?;
    let worker = scene.worker().await?;
    scene.send(NOTES, "m", "good").await?;
    scene.send(NOTES, "n", "good").await?;
    scene.took_effect(2).await?;
    assert_eq!((scene.letters("parked").await?, scene.letters("held").await?), (3, 1));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_whose_event_is_too_large() -> anyhow::Result<()> {
    one_of_500("large", "poison", "the limit is").await.map(drop)
}

/// Key, payload, headers, and words of what is wrong.
type Stranger<'s> = (Option<&'s str>, Option<&'s [u8]>, OwnedHeaders, &'static str);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_strangers_are_kept_as_they_are() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let old = Uuid::from_u128(1_500_000_000_000 << 80 | 0x7000_8000_0000_0000_0001).to_string();
    let ahead = Uuid::from_u128(9_500_000_000_000 << 80 | 0x7000_8000_0000_0000_0002).to_string();
    let new = Uuid::now_v7().to_string();
    let note = Note::full_name();
    let mut odd = OwnedHeaders::new();
    for value in [Some(&b"one"[..]), Some(b"\0\xff"), None] {
        odd = odd.insert(rdkafka::message::Header { key: "twice", value });
    }
    let cases: [Stranger<'_>; 6] = [
        (None, None, OwnedHeaders::new(), "header ce_source is missing or not text"),
        (Some("key"), Some(b"\0\xff"), odd.clone(), "header ce_source is missing or not text"),
        (None, Some(b"x"), event_headers("1", &note), "header ce_id is no UUID"),
        (None, Some(b"x"), event_headers(&old, &note), "older than 28 days"),
        (None, Some(b"x"), event_headers(&ahead, &note), "more than a day ahead"),
        (
            None,
            Some(b"x"),
            event_headers(&new, &"a".repeat(300)),
            "header ce_type has a zero byte, or more than",
        ),
    ];
    for (key, payload, headers, _) in &cases {
        scene.send_raw(NOTES, *key, *payload, headers.clone()).await?;
    }
    // A type that is of no concern here, and a follower.
    scene
        .send_raw(NOTES, None, Some(b"x"), event_headers(&Uuid::now_v7().to_string(), "tests.v1.Other"))
        .await?;
    scene.send_raw(NOTES, None, Some(b"good"), event_headers(&new, &note)).await?;
    let worker = scene.worker().await?;
    assert_eq!(scene.took_effect(1).await?, ["good"]);
    scene.has_letters(cases.len() as i64, "parked").await?;
    let parked: Vec<_> = letters(&scene.operator, &Filter::default())?.try_collect().await?;
    for (letter, (key, payload, _, words)) in parked.iter().zip(&cases) {
        assert!(letter.error.as_ref().is_some_and(|error| error.contains(words)), "{letter:?}");
        assert_eq!(letter.key.as_deref(), key.map(str::as_bytes));
        assert_eq!(letter.payload.as_deref(), *payload);
    }
    let headers: Vec<_> = parked[1].headers.iter().collect();
    assert_eq!(headers, [("twice", Some(&b"one"[..])), ("twice", Some(b"\0\xff")), ("twice", None)]);
    assert_eq!(
        parked.iter().map(|letter| letter.kind.as_deref().unwrap_or_default()).collect::<Vec<_>>(),
        ["poison", "poison", "poison", "too-old", "clock", "poison"]
    );
    assert_eq!(
        scene.number("select count(*) from inbox.key_hold").await?,
        1,
        "only what has a key is waited for"
    );
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_has_a_copy_for_its_topic_with_everything_as_it_was() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.break_for("a1", "poison").await?;
    scene.send_all(NOTES, &notes(&["a"], 2)).await?;
    let worker = scene.worker().await?;
    scene.has_letters(1, "held").await?;
    let id = sqlx::query_scalar::<_, Uuid>("select id from inbox.dead_letter where state = 'parked'")
        .fetch_one(&scene.owner)
        .await?;
    let letter = find(&scene.operator, id).await?.expect("it is there");
    assert_eq!((letter.attempts, letter.version.as_deref()), (2, Some("1.2.3")), "with its batch, and apart");
    let waiting = behind(&scene.operator, id, 10).await?;
    assert_eq!(waiting.iter().filter_map(|letter| letter.payload.as_deref()).collect::<Vec<_>>(), [b"a2"]);
    let copy = sqlx::query("select event_id, topic, key, headers, payload from outbox.event")
        .fetch_one(&scene.owner)
        .await?;
    assert_eq!(copy.try_get::<Uuid, _>("event_id")?, id);
    assert_eq!(copy.try_get::<String, _>("topic")?, "notes.notes.dlq");
    assert_eq!(copy.try_get::<Vec<u8>, _>("key")?, b"a");
    assert_eq!(copy.try_get::<Vec<u8>, _>("payload")?, b"a1");
    let headers = Headers::decode(copy.try_get("headers")?)?;
    let original: Vec<_> = headers.iter().take(3).map(|(name, _)| name).collect();
    assert_eq!(original, ["ce_source", "ce_id", "ce_type"], "first what it came with");
    assert_eq!(headers.text("__dlq.errors.message"), Some("field text is a1"));
    assert_eq!(headers.text("dlq-error-kind"), Some("poison"));
    assert_eq!(headers.text("dlq-attempts"), Some("2"));
    worker.stop().await
}

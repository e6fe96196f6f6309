//! A key waits behind its dead letter, whoever consumes, and goes on in order.

use crate::scene::{NOTES, Scene, notes};

/// The effects of one key.
fn of<'e>(effects: &'e [String], key: &str) -> Vec<&'e str> {
    effects.iter().map(String::as_str).filter(|text| text.starts_with(key)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_waits_behind_what_failed_and_all_others_flow() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.break_for("a2", "poison").await?;
    scene.send_all(NOTES, &notes(&["a", "b", "c"], 4)).await?;
    let worker = scene.worker().await?;
    scene.has_letters(2, "held").await?;
    let effects = scene.took_effect(9).await?;
    assert_eq!(of(&effects, "a"), ["a1"]);
    assert_eq!(of(&effects, "b"), ["b1", "b2", "b3", "b4"]);
    // Another worker knows of it too.
    worker.stop().await?;
    let worker = scene.worker().await?;
    scene.send_all(NOTES, &[("a".into(), "a5".into()), ("b".into(), "b5".into())]).await?;
    scene.has_letters(3, "held").await?;
    // Still broken: it is dead again, and the others wait on.
    let again = scene.replay().await?;
    assert_eq!((again.selected, again.replayed, again.dead_again), (1, 0, 1));
    assert_eq!((scene.letters("parked").await?, scene.letters("held").await?), (1, 3));
    scene.mend().await?;
    let replayed = scene.replay().await?;
    assert_eq!((replayed.selected, replayed.replayed, replayed.dead_again, replayed.left), (1, 4, 0, 0));
    let effects = scene.effects().await?;
    assert_eq!(of(&effects, "a"), ["a1", "a2", "a3", "a4", "a5"], "in order, each once");
    assert_eq!(scene.number("select count(*) from inbox.key_hold").await?, 0);
    // By the processing sequence too, which `verify` goes by.
    let texts = "select coalesce(string_agg(d.event_id, ' ' order by m.seq) =
            string_agg(d.event_id, ' ' order by d.\"offset\"), false)::int::bigint
        from inbox.dead_letter as d join inbox.message as m on m.id = d.event_id";
    let in_order = sqlx::query_scalar::<_, i64>(texts).fetch_one(&scene.owner).await?;
    assert_eq!(in_order, 1, "the replayed records took effect in the order of the topic");
    scene.send(NOTES, "a", "a6").await?;
    let effects = scene.took_effect(15).await?;
    assert_eq!(of(&effects, "a").last(), Some(&"a6"), "the key flows again");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_arrive_during_a_replay_do_not_overtake_it() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.break_for("a1", "poison").await?;
    scene.send_all(NOTES, &notes(&["a"], 200)).await?;
    let workers = [scene.worker().await?, scene.worker().await?];
    scene.has_letters(199, "held").await?;
    scene.mend().await?;
    let replaying = scene.replay();
    let sending = async {
        for number in 201..=400 {
            scene.send(NOTES, "a", &format!("a{number}")).await?;
        }
        anyhow::Ok(())
    };
    let (replayed, sent) = tokio::join!(replaying, sending);
    sent?;
    assert!(replayed?.replayed >= 200);
    let effects = scene.took_effect(400).await?;
    let expected: Vec<String> = (1..=400).map(|number| format!("a{number}")).collect();
    assert_eq!(effects, expected);
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}

//! What a consumer shows of itself moves with what it does.

use testkit::until;

use crate::scene::{BLOCKING, NOTES, SKIPPING, Scene, WITHIN, notes};

/// Waits until all of these samples are shown.
async fn shows(metrics: &telemetry::Metrics, samples: &[&str]) -> anyhow::Result<()> {
    until(&format!("{samples:#?}"), WITHIN, || async {
        let text = metrics.text();
        let is_shown = |sample: &&str| text.lines().any(|line| line == *sample);
        Ok(samples.iter().all(is_shown).then_some(()))
    })
    .await
}

/// The sum of the samples that begin like this.
fn sum(metrics: &telemetry::Metrics, begin: &str) -> f64 {
    let text = metrics.text();
    let samples = text.lines().filter(|line| line.starts_with(begin));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_shown_by_who_reads_them() -> anyhow::Result<()> {
    const ASSIGNED: &str = "consumer_assigned_partitions";
    let scene = Scene::set().await?;
    let first = scene.worker().await?;
    let all = [NOTES, BLOCKING, SKIPPING]
        .map(|topic| format!(r#"{ASSIGNED}{{group="notes",topic="{topic}"}} 2.0"#));
    let all = all.each_ref().map(String::as_str);
    shows(&first.metrics, &all).await?;
    let second = scene.worker().await?;
    until("each has a share", WITHIN, || async {
        let shares = [&first, &second].map(|worker| sum(&worker.metrics, ASSIGNED));
        Ok((shares[0] > 0.0 && shares[1] > 0.0 && shares.iter().sum::<f64>() == 6.0).then_some(()))
    })
    .await?;
    let left = first.metrics.clone();
    first.stop().await?;
    assert_eq!(sum(&left, ASSIGNED), 0.0, "{}", left.text());
    shows(&second.metrics, &all).await?;
    second.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_effect_is_counted_and_timed() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let worker = scene.worker().await?;
    shows(
        &worker.metrics,
        &[
            r#"consumer_records_total{group="notes",topic="notes"} 0"#,
            r#"consumer_dead_letters_total{group="notes",topic="skipping",kind="poison"} 0"#,
        ],
    )
    .await?;
    scene.send_all(NOTES, &notes(&["a", "b"], 3)).await?;
    scene.took_effect(6).await?;
    shows(
        &worker.metrics,
        &[
            r#"consumer_records_total{group="notes",topic="notes"} 6"#,
            r#"consumer_delivery_duration_seconds_count{group="notes",topic="notes"} 6"#,
            r#"consumer_delivery_duration_seconds_count{group="notes",topic="skipping"} 0"#,
            r#"consumer_batch_records_sum{group="notes"} 6.0"#,
        ],
    )
    .await?;
    // Made and processed within this test.
    let within = r#"consumer_delivery_duration_seconds_bucket{le="600.0",group="notes",topic="notes"} 6"#;
    assert!(worker.metrics.text().contains(within), "{}", worker.metrics.text());
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_shown_until_somebody_has_dealt_with_them() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let worker = scene.worker().await?;
    let none = [
        r#"consumer_open_dead_letters{group="notes",topic="notes"} 0.0"#,
        r#"consumer_open_dead_letters{group="notes",topic="blocking"} 0.0"#,
        r#"consumer_held_keys{group="notes",topic="notes"} 0.0"#,
    ];
    shows(&worker.metrics, &none).await?;
    scene.break_for("a1", "poison").await?;
    scene.send_all(NOTES, &notes(&["a"], 3)).await?;
    shows(
        &worker.metrics,
        &[
            r#"consumer_open_dead_letters{group="notes",topic="notes"} 3.0"#,
            r#"consumer_open_dead_letters{group="notes",topic="blocking"} 0.0"#,
            r#"consumer_held_keys{group="notes",topic="notes"} 1.0"#,
            r#"consumer_dead_letters_total{group="notes",topic="notes",kind="poison"} 1"#,
            r#"consumer_held_records_total{group="notes",topic="notes"} 2"#,
        ],
    )
    .await?;
    scene.mend().await?;
    scene.replay().await?;
    shows(&worker.metrics, &none).await?;
    shows(&worker.metrics, &[r#"consumer_replayed_records_total{group="notes",topic="notes"} 3"#]).await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counting_dead_letters_reads_indexes_only() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let many = "insert into inbox.dead_letter (id, consumer, topic, partition, \"offset\", key, headers, state, event_id)
        select gen_random_uuid(), 'notes', 'notes', 0, n, n::text::bytea, '', case n % 100 when 0 then 'parked' else 'replayed' end,
            n::text
        from generate_series(1, 20000) as n";
    sqlx::raw_sql(many).execute(&scene.owner).await?;
    sqlx::raw_sql("vacuum analyze inbox.dead_letter; ").execute(&scene.owner).await?;
    let explain = concat!("explain ", include_str!("../../src/sql/open_letters.sql"));
    let plan: Vec<String> = sqlx::query_scalar(explain).bind("notes").fetch_all(&scene.owner).await?;
    let plan = plan.join("\n");
    assert!(plan.contains("Index Only Scan using dead_letter_key_idx"), "{plan}");
    assert!(!plan.contains("Seq Scan on dead_letter"), "{plan}");
    Ok(())
}

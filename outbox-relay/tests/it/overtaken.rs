//! Where Kafka refuses what the relay could not know, a key may be overtaken: then exactly these keys are on record.

use std::{collections::BTreeSet, io::Write as _, time::Duration};

use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use sqlx::PgPool;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    records::{Record, Records},
    refusals::{append, event, operator},
    scene::Scene,
    size_limits::noise,
};

const WITHIN: Duration = Duration::from_secs(60);
const KEYS: i64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_were_overtaken_are_on_record_and_no_others() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.create_topic("wide", 1, &[]).await?;
    let name = format!("{}wide", scene.prefix);
    let relay = scene.relay("relay")?;
    let app = PgPool::connect_with(scene.writer()?).await?;
    let mut records = Records::of(&scene.servers.kafka, &scene.prefix, &[("wide", 1)])?;
    let (mut sequence, mut expected) = (0, BTreeSet::new());
    // Each smaller than what the relay knows by then. Whether something is overtaken depends on the batches.
    for limit in ["20000", "5000", "1500"] {
        let smaller = AlterConfig::new(ResourceSpecifier::Topic(&name)).set("max.message.bytes", limit);
        for altered in scene.kafka_admin()?.alter_configs([&smaller], &AdminOptions::new()).await? {
            altered.map_err(|(_, code)| anyhow::anyhow!("{code}"))?;
        }
        // A relay that is held up takes back what was refused too late.
        let superuser = scene.superuser.clone();
        let hold_up = AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let _ = sqlx::raw_sql(
                    "begin; select from outbox.cursor for update; select pg_sleep(0.3); rollback",
                )
                .execute(&superuser)
                .await;
            }
        }));
        for transaction in 0..60 {
            // Large transactions make batches that are refused, small ones batches that are not.
            let rounds = if transaction % 3 == 0 { 40 } else { 1 };
            let mut events = Vec::new();
            for _ in 0..rounds {
                sequence += 1;
                events.extend((0..KEYS).map(|key| event("wide", &format!("k{key}"), sequence, noise(300))));
            }
            append(&app, events).await?;
        }
        drop(hold_up);
        scene.drained(WITHIN).await?;
        expected = overtaken(records.read_to_the_end()?);
        if !expected.is_empty() {
            break;
        }
    }
    writeln!(std::io::stderr(), "overtaken: {} of {KEYS} keys", expected.len())?;
    let noted: Vec<String> = sqlx::query_scalar("select convert_from(key, 'UTF8') from outbox.overtaken")
        .fetch_all(&scene.superuser)
        .await?;
    assert_eq!(noted.into_iter().collect::<BTreeSet<_>>(), expected);
    assert!(relay.metric("outbox_overtaken_keys_total").await? >= expected.len() as f64);
    // What an operator sees of one, also where the batches were kind.
    sqlx::raw_sql("insert into outbox.overtaken values ('wide', 'by-hand', 1)")
        .execute(&scene.superuser)
        .await?;
    expected.insert("by-hand".to_owned());
    for key in &expected {
        let (_, said) = operator(&scene, &["status"])?;
        assert!(said.contains(&format!("key {key} of wide was overtaken")), "{said}");
        let (done, said) = operator(&scene, &["release", "--topic", "wide", "--key", key])?;
        assert!(done && said.contains("is forgotten"), "{said}");
    }
    assert_eq!(scene.count("overtaken").await?, 0);
    scene.end()
}

/// Keys of which a first occurrence comes after a later one's.
fn overtaken(records: &[Record]) -> BTreeSet<String> {
    (0..KEYS)
        .map(|key| format!("k{key}"))
        .filter(|key| !crate::refusals::sequences(records, "wide", key).is_sorted())
        .collect()
}

//! `orderly topics apply` on a real Kafka: what it creates it finds as it should be, and what differs it names.

use std::process::{Output, Stdio};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
};
use testkit::servers;
use tokio::process::Command;
use uuid::Uuid;

async fn apply(kafka: &str, prefix: &str, partitions: &str) -> anyhow::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orderly"));
    command.args(["topics", "apply", "--kafka", kafka, "--prefix", prefix, "--partitions", partitions]);
    Ok(command.stdin(Stdio::null()).kill_on_drop(true).output().await?)
}

#[tokio::test]
async fn every_topic_has_room_for_copies_of_what_failed() -> anyhow::Result<()> {
    let kafka = &servers().await?.kafka;
    let prefix = format!("t{}-", &Uuid::new_v4().simple().to_string()[..12]);
    let created = apply(kafka, &prefix, "1").await?;
    let said = String::from_utf8_lossy(&created.stdout).into_owned();
    let names: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("created ")).collect();
    let again = apply(kafka, &prefix, "1").await?;
    let others = apply(kafka, &prefix, "2").await?;

    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka).create()?;
    let copies = format!("{prefix}payment-requests.billing.dlq");
    let settings = admin.describe_configs(&[ResourceSpecifier::Topic(&copies)], &AdminOptions::new()).await?;
    admin.delete_topics(&names, &AdminOptions::new()).await?;

    assert!(created.status.success() && names.len() == 22, "{created:?}");
    for copies in [
        "stock-requests.inventory.dlq",
        "stock-results.order.dlq",
        "payment-results.order.dlq",
        "notification-events.notification.dlq",
        "product-events.order.dlq",
        "order-created.outbox.dlq",
    ] {
        assert!(names.contains(&format!("{prefix}{copies}").as_str()), "{copies} is not in {said}");
    }
    let room = settings.into_iter().flatten().find_map(|topic| topic.get("max.message.bytes")?.value.clone());
    assert_eq!(room.as_deref(), Some("1114124"));
    assert_eq!(String::from_utf8_lossy(&again.stdout), "22 of 22 topics existed, as they should be\n");
    let words = String::from_utf8_lossy(&others.stderr);
    assert!(
        !others.status.success() && words.contains(&format!("{copies} has 1 partitions, wants 2")),
        "{words}"
    );
    Ok(())
}

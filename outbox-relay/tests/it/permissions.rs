//! A topic that the relay may not write to, or not even see, waits; all others flow.

use std::time::Duration;

use sqlx::PgPool;
use testkit::{Dedicated, until};

use crate::{
    refusals::{append, arrive, event, operator},
    scene::Scene,
};

const WITHIN: Duration = Duration::from_secs(30);
const AUTHORIZER: &[(&str, &str)] = &[
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("allow.everyone.if.no.acl.found", "true"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_without_permission_wait_alone_and_catch_up_in_order() -> anyhow::Result<()> {
    let kafka = Dedicated::kafka_with(AUTHORIZER).await?;
    let scene = Scene::set_on(kafka.with_shared().await?).await?;
    let (beta, gamma) = (format!("{}beta", scene.prefix), format!("{}gamma", scene.prefix));
    // Anybody may create and describe topics; with a rule for one of its operations, nobody else's others.
    let rules = [
        ["--deny-principal", "User:ANONYMOUS", "--operation", "Write", "--topic", &beta],
        ["--allow-principal", "User:ANONYMOUS", "--operation", "All", "--topic", &beta],
        ["--deny-principal", "User:ANONYMOUS", "--operation", "All", "--topic", &gamma],
    ];
    for rule in rules {
        kafka.tool("org.apache.kafka.tools.AclCommand", &[&["--add"][..], &rule].concat()).await?;
    }
    let relay = scene.relay("relay")?;
    let app = PgPool::connect_with(scene.writer()?).await?;
    for sequence in 1..=5 {
        let topics = ["alpha", "beta", "gamma"];
        append(&app, topics.map(|topic| event(topic, "k", sequence, b"v".to_vec())).to_vec()).await?;
    }
    let mut alpha = crate::records::Records::of(&scene.servers.kafka, &scene.prefix, &[("alpha", 6)])?;
    arrive(&mut alpha, "alpha", "k", &[1, 2, 3, 4, 5]).await?;
    relay.says("beta waits").await?;
    relay.says("gamma waits").await?;
    let (found, said) = operator(&scene, &["status"])?;
    assert!(found && said.contains("topic beta waits") && said.contains("topic gamma waits"), "{said}");
    assert!(said.to_lowercase().contains("authoriz"), "an operator is not told why: {said}");
    until("the metric follows", WITHIN, || async {
        Ok((relay.metric("outbox_lanes").await? == 2.0).then_some(()))
    })
    .await?;
    assert_eq!(scene.count("parked").await?, 0, "no event is at fault");

    for topic in [&beta, &gamma] {
        let remove = ["--remove", "--force", "--topic", topic];
        kafka.tool("org.apache.kafka.tools.AclCommand", &remove).await?;
    }
    let mut records = scene.records()?;
    for topic in ["beta", "gamma"] {
        arrive(&mut records, topic, "k", &[1, 2, 3, 4, 5]).await?;
    }
    scene.emptied("lane", WITHIN).await?;
    scene.end()
}

//! How long each topic keeps its records: what is younger cannot have been removed by age.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
};

use crate::{platform::Platform, verify::facts::Topic};

/// Longest wait for the brokers' answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// The moment, in milliseconds since 1970, that each topic's `retention.ms` reaches back to from now.
pub(super) async fn expired_ms(platform: &Platform) -> anyhow::Result<BTreeMap<Topic, i64>> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", platform.kafka())
        .set("client.id", "orderly-verify")
        .set("log_level", "2")
        .create()
        .context("could not make a Kafka client")?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let names: Vec<String> = Topic::ALL.iter().map(|topic| format!("{}{topic}", platform.prefix())).collect();
    let topics: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let settings = admin
        .describe_configs(&topics, &options)
        .await
        .context("the settings of the topics could not be read; is Kafka up?")?;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let mut expired = BTreeMap::new();
    for ((&topic, name), settings) in Topic::ALL.iter().zip(&names).zip(settings) {
        let kept =
            settings.ok().and_then(|settings| settings.get("retention.ms")?.value.as_deref()?.parse().ok());
        let kept: i64 = kept.with_context(|| {
            format!("retention.ms of topic {name} could not be read; may this client describe its settings?")
        })?;
        // -1: records are kept for ever.
        expired.insert(topic, if kept < 0 { i64::MIN } else { now.saturating_sub(kept) });
    }
    Ok(expired)
}

//! Prometheus: what it scrapes, and the rules that it evaluates.

use std::{fmt::Write as _, fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::Context as _;

use super::files;
use crate::{
    platform::{Endpoints, Observe, Platform},
    supervisor::program::Program,
};

/// More than the longest window of the rules, three days; this is no archive.
const RETENTION: [&str; 2] = ["--storage.tsdb.retention.time=4d", "--storage.tsdb.retention.size=1GB"];

pub(super) fn program(
    platform: &Platform,
    observe: &Observe,
    executable: &Path,
    interval: Duration,
) -> anyhow::Result<Program> {
    let folder = platform.data_dir().path().join("prometheus");
    let rules = folder.join("rules");
    files::write("rules", &rules, &[])?;
    let config = folder.join("prometheus.yml");
    fs::write(&config, render(platform.endpoints(), observe, &rules, interval))
        .with_context(|| format!("could not write {}", config.display()))?;
    let flag = |name: &str, path: &Path| {
        let mut flag = std::ffi::OsString::from(name);
        flag.push(path);
        flag
    };
    let mut args = vec![
        flag("--config.file=", &config),
        flag("--storage.tsdb.path=", &folder.join("data")),
        format!("--web.listen-address={}", observe.prometheus).into(),
        "--enable-feature=exemplar-storage".into(),
    ];
    args.extend(RETENTION.map(Into::into));
    Ok(Program::Command { executable: executable.to_owned(), args, env: Vec::new() })
}

/// The configuration: a job a component, by the name that it has everywhere.
fn render(endpoints: &Endpoints, observe: &Observe, rules: &Path, interval: Duration) -> String {
    let jobs = [
        ("order", Some(endpoints.order_admin)),
        ("inventory", Some(endpoints.inventory_admin)),
        ("billing", Some(endpoints.billing_admin)),
        ("notification", Some(endpoints.notification_admin)),
        ("outbox-relay", Some(endpoints.relay_admin)),
        ("exporter", Some(endpoints.exporter)),
        ("postgres", Some(observe.postgres)),
        ("kafka", observe.kafka),
        ("prometheus", Some(observe.prometheus)),
    ];
    let millis = interval.as_millis();
    // A path is quoted as JSON, which YAML reads.
    let rules = serde_json::Value::from(rules.join("*").to_string_lossy());
    let mut config = format!(
        "# Written by `orderly up --observe` each time it starts.\n\
         global:\n  scrape_interval: {millis}ms\n  evaluation_interval: {millis}ms\n\
         rule_files: [{rules}]\n\
         scrape_configs:\n"
    );
    for (job, target) in
        jobs.into_iter().filter_map(|(job, target): (_, Option<SocketAddr>)| Some((job, target?)))
    {
        // Writing to a string cannot fail.
        let _ = write!(
            config,
            "  - job_name: {job}\n    static_configs: [targets: [{target:?}]]\n",
            target = target.to_string()
        );
    }
    config
}

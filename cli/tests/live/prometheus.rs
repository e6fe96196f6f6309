//! A Prometheus, what it answers, and what its own checker says.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    process::Stdio,
};

use anyhow::{Context as _, ensure};
use reqwest::Url;
use serde_json::Value;
use testkit::until;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::{
    home::WITHIN,
    queries::{self, Query},
};

/// A Prometheus.
pub struct Prometheus {
    url: String,
    http: reqwest::Client,
}

impl Prometheus {
    pub fn at(address: SocketAddr) -> Self {
        Self { url: format!("http://{address}"), http: reqwest::Client::new() }
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Value> {
        let url = Url::parse_with_params(&format!("{}/api/v1/{path}", self.url), query)?;
        let answer: Value = self.http.get(url).send().await?.json().await?;
        ensure!(answer["status"] == "success", "{path} {query:?}: {answer}");
        Ok(answer["data"].clone())
    }

    /// The URL of every job's one target, once these are all and all are up.
    pub async fn targets(&self, jobs: &[&str]) -> anyhow::Result<BTreeMap<String, String>> {
        let wanted: BTreeSet<&str> = jobs.iter().copied().collect();
        until("every target is up", WITHIN, || async {
            let data = self.get("targets", &[("state", "active")]).await?;
            let targets = data["activeTargets"].as_array().context("targets")?;
            let up = targets.iter().filter(|target| target["health"] == "up");
            let url = |target: &Value| {
                let text = |value: &Value| value.as_str().map(str::to_owned);
                Some((text(&target["labels"]["job"])?, text(&target["scrapeUrl"])?))
            };
            let up: BTreeMap<_, _> = up.filter_map(url).collect();
            Ok((up.len() == targets.len() && up.keys().map(String::as_str).eq(wanted.iter().copied()))
                .then_some(up))
        })
        .await
    }

    /// Every rule, once all are evaluated.
    pub async fn rules(&self) -> anyhow::Result<Vec<Value>> {
        until("every rule is evaluated", WITHIN, || async {
            let data = self.get("rules", &[]).await?;
            let groups = data["groups"].as_array().context("groups")?;
            let rules = groups.iter().filter_map(|group| group["rules"].as_array()).flatten();
            let rules: Vec<Value> = rules.cloned().collect();
            Ok(rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules))
        })
        .await
    }

    /// Whether an expression has series, now.
    async fn finds(&self, expr: &str) -> anyhow::Result<bool> {
        let data = self.get("query", &[("query", expr)]).await?;
        Ok(data["result"].as_array().is_some_and(|series| !series.is_empty()))
    }

    /// Whether a query has something to show. A rule is silent when all is well, and `absent` answers for what is not
    /// there: rules are asked for what they look at.
    async fn has_data(&self, query: &Query) -> anyhow::Result<bool> {
        if !query.file.starts_with("rules/") {
            return self.finds(&query.expr).await;
        }
        for selector in queries::selectors(&query.expr) {
            if !self.finds(&format!("last_over_time({selector}[10m])")).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Those that have nothing to show.
    pub async fn without_data(&self, queries: &[Query]) -> anyhow::Result<Vec<String>> {
        let mut without = Vec::new();
        for query in queries {
            if !self.has_data(query).await? {
                without.push(describe(query));
            }
        }
        Ok(without)
    }
}

/// A query, for people.
pub fn describe(query: &Query) -> String {
    format!("{}: {}: {}", query.file, query.panel, query.expr)
}

/// What Prometheus' own checker has to say about a page of metrics.
pub async fn check_metrics(url: &str) -> anyhow::Result<String> {
    let page = reqwest::get(url).await?.text().await?;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("promtool, of Debian's package `prometheus`")?;
    promtool.stdin.take().context("it is piped")?.write_all(page.as_bytes()).await?;
    let output = promtool.wait_with_output().await?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

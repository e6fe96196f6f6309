//! The dashboards and the rules of grafana/, over a platform that was put under load and hurt.

use anyhow::{Context as _, ensure};
use cli::platform::{
    Endpoints,
    record::{Phase, ProcessState},
};
use nix::sys::signal::Signal;
use proto::order::v1::{ListOrdersRequest, order_service_client::OrderServiceClient};
use reqwest::Url;
use serde_json::{Value, json};
use testkit::until;
use tonic::{Code, transport::Endpoint};

use crate::{
    home::{Home, WITHIN, interrupt},
    queries::{self, Query},
};

/// A Prometheus, and what it answers.
struct Prometheus {
    url: String,
    http: reqwest::Client,
}

impl Prometheus {
    /// The series of an expression, now.
    async fn ask(&self, expr: &str) -> anyhow::Result<Vec<Value>> {
        let asked = Url::parse_with_params(&format!("{}/api/v1/query", self.url), [("query", expr)])?;
        let answer: Value = self.http.get(asked).send().await?.json().await?;
        ensure!(answer["status"] == "success", "{expr}: {answer}");
        Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
    }

    /// Whether a query has something to show. A rule that is silent when all is well is asked for what it looks at.
    async fn has_data(&self, query: &Query) -> anyhow::Result<bool> {
        if !self.ask(&query.expr).await?.is_empty() {
            return Ok(true);
        }
        if !query.file.starts_with("rules/") {
            return Ok(false);
        }
        for selector in queries::selectors(&query.expr) {
            if self.ask(&format!("last_over_time({selector}[10m])")).await?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Those that have none.
    async fn without_data(&self, queries: &[Query]) -> anyhow::Result<Vec<String>> {
        let mut without = Vec::new();
        for query in queries {
            if !self.has_data(query).await? {
                without.push(format!("{}: {}: {}", query.file, query.panel, query.expr));
            }
        }
        Ok(without)
    }
}

#[tokio::test]
async fn every_query_of_every_dashboard_and_rule_has_data() -> anyhow::Result<()> {
    let home = Home::new()?;
    let mut up = home.up();
    up.args(["--observe", "--scrape-interval", "1s"]).stdout(std::process::Stdio::null());
    let mut up = up.spawn()?;
    let record = home.when("the platform is ready", |record| record.phase == Phase::Ready).await?;
    let observe = record.endpoints.observe.clone().context("it is observed")?;
    let prometheus =
        Prometheus { url: format!("http://{}", observe.prometheus), http: reqwest::Client::new() };
    until("every target is up", WITHIN, || async {
        let targets = prometheus.ask("up").await?;
        let down = targets.iter().filter(|target| target["value"][1] != "1").count();
        Ok((targets.len() >= 9 && down == 0).then_some(()))
    })
    .await?;

    hurt(&home, &record.endpoints).await?;
    let mut all = queries::dashboards();
    all.extend(queries::rules());
    assert!(all.len() > 100, "{} queries", all.len());
    let mut left = Vec::new();
    let seen = until("every query has data", WITHIN, || async {
        let without = prometheus.without_data(&all).await?;
        Ok(without.is_empty().then_some(()))
    });
    if seen.await.is_err() {
        left = prometheus.without_data(&all).await?;
    }
    assert!(left.is_empty(), "{} queries have no data:\n{}", left.len(), left.join("\n"));

    // A metric by another name is missed, on a panel and in a rule.
    for (file, name) in [("dashboards/", "outbox_published_total"), ("rules/", "outbox_lease_epoch")] {
        let query = all.iter().find(|query| query.file.starts_with(file) && query.expr.contains(name));
        let query = query.with_context(|| format!("{file} asks for {name}"))?;
        let renamed = Query { expr: query.expr.replace(name, "renamed_metric"), ..query.clone() };
        // `absent` answers for what is not there: the rule is asked for what it looks at.
        let asked =
            queries::selectors(&renamed.expr).into_iter().find(|asked| asked.contains("renamed_metric"));
        let renamed = Query { expr: asked.context("it asks for it")?, ..renamed };
        assert!(!prometheus.has_data(&renamed).await?, "{renamed:?} has data");
    }
    assert!(interrupt(&mut up).await?.success());
    Ok(())
}

/// Orders of every kind, while the provider is away, and the relay, a service and PostgreSQL are killed.
async fn hurt(home: &Home, endpoints: &Endpoints) -> anyhow::Result<()> {
    let mut load = home.orderly("load");
    load.args(["--rate", "30", "--duration", "25s", "--decline-ratio", "0.2", "--out-of-stock-ratio", "0.2"]);
    let load = tokio::spawn(load.args(["--cancel-ratio", "0.2", "--json"]).kill_on_drop(true).output());
    let http = reqwest::Client::new();
    let outage = |on: bool| {
        let request = http.put(format!("http://{}/v1/outage", endpoints.provider)).json(&json!({ "on": on }));
        async move { anyhow::Ok(request.send().await?.error_for_status()?) }
    };
    let accepted = async |more: usize| {
        let before = home.acknowledged()?;
        until("orders are accepted", WITHIN, || async {
            Ok((home.acknowledged()? > before + more).then_some(()))
        })
        .await
    };
    accepted(60).await?;
    outage(true).await?;
    accepted(120).await?;
    outage(false).await?;
    let order = Endpoint::from_shared(format!("http://{}", endpoints.order))?.connect_lazy();
    let orders = OrderServiceClient::new(order);
    for name in ["outbox-relay", "billing", "postgres"] {
        let record = home.record()?.context("it is up")?;
        let process = record.processes.iter().find(|process| process.name == name).context(name)?;
        process.identity.context("it runs")?.signal(Signal::SIGKILL);
        if name == "postgres" {
            until("a call finds no database", WITHIN, || {
                let mut orders = orders.clone();
                async move {
                    let listed = orders.list_orders(ListOrdersRequest::default()).await;
                    Ok(listed.is_err_and(|status| status.code() == Code::Unavailable).then_some(()))
                }
            })
            .await?;
        }
        home.when(&format!("{name} is back"), |record| {
            let again = record.processes.iter().find(|process| process.name == name);
            again.is_some_and(|again| again.restarts > 0 && again.state == ProcessState::Running)
        })
        .await?;
        accepted(60).await?;
    }
    let load = tokio::time::timeout(2 * WITHIN, load).await???;
    ensure!(
        load.status.success(),
        "{}{}",
        String::from_utf8_lossy(&load.stdout),
        String::from_utf8_lossy(&load.stderr)
    );
    Ok(())
}

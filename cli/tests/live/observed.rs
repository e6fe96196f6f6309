//! `orderly up --observe`: every process is scraped, and the dashboards and the rules of grafana/ have something to show
//! once the platform was put under load and hurt. One platform for all of it.

use anyhow::{Context as _, ensure};
use cli::platform::{Endpoints, process::Identity, record::ProcessState};
use nix::sys::signal::Signal;
use proto::order::v1::{ListOrdersRequest, order_service_client::OrderServiceClient};
use serde_json::json;
use testkit::until;
use tonic::{Code, transport::Endpoint};

use crate::{
    home::{Home, WITHIN},
    load::Load,
    prometheus::{Prometheus, check_metrics, describe},
    queries::{self, Query},
};

const JOBS: [&str; 9] = [
    "billing",
    "exporter",
    "inventory",
    "kafka",
    "notification",
    "order",
    "outbox-relay",
    "postgres",
    "prometheus",
];

#[tokio::test]
async fn everything_is_scraped_and_every_query_has_data_and_nothing_is_left() -> anyhow::Result<()> {
    let home = Home::new()?;
    let up = home.run(home.up().args(["--detach", "--observe", "--scrape-interval", "1s"])).await?;
    assert_eq!(up.0, Some(0), "{}", up.1);
    let record = home.record()?.context("it is up")?;
    let address = record.endpoints.observe.as_ref().context("it is observed")?.prometheus;
    assert!(up.1.contains(&format!("Prometheus      http://{address}\n")), "{}", up.1);
    let status = home.run(&mut home.orderly("status")).await?;
    assert_eq!(status.0, Some(0), "{}", status.1);
    let prometheus = Prometheus::at(address);

    for (job, url) in prometheus.targets(&JOBS).await? {
        // Not ours, and they do not follow the conventions.
        if !["postgres", "prometheus"].contains(&job.as_str()) {
            let problems = check_metrics(&url).await?;
            assert!(problems.is_empty(), "{url}: {problems}");
        }
    }
    let rules = prometheus.rules().await?;
    let broken: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
    assert!(rules.len() > 20 && broken.is_empty(), "{} rules, of which fail {broken:#?}", rules.len());

    hurt(&home, &record.endpoints).await?;
    every_query_has_data(&prometheus).await?;
    a_renamed_metric_is_missed(&prometheus).await?;

    let record = home.record()?.context("it is up")?;
    let down = home.run(home.orderly("down").arg("--delete-data")).await?;
    assert_eq!(down.0, Some(0), "{}", down.1);
    let processes = record.processes.iter().filter_map(|process| process.identity);
    let left: Vec<_> = processes.filter(|process: &Identity| process.is_alive()).collect();
    assert!(left.is_empty() && !home.data_dir().path().exists(), "{left:?} of {record:#?}");
    Ok(())
}

async fn every_query_has_data(prometheus: &Prometheus) -> anyhow::Result<()> {
    let mut all = queries::dashboards();
    all.extend(queries::rules());
    assert!(all.len() > 100, "{} queries", all.len());
    let mut left = Vec::new();
    let seen = until("every query has data", WITHIN, || async {
        Ok(prometheus.without_data(&all).await?.is_empty().then_some(()))
    });
    if seen.await.is_err() {
        left = prometheus.without_data(&all).await?;
    }
    ensure!(left.is_empty(), "{} queries have no data:\n{}", left.len(), left.join("\n"));
    Ok(())
}

/// Shows that the check above can fail: it is made again of files in which a metric has a name that no process knows, as
/// after a renaming in the code, and names the queries that ask for it and no others.
async fn a_renamed_metric_is_missed(prometheus: &Prometheus) -> anyhow::Result<()> {
    const RENAMED: &str = "renamed_metric";
    let rename = |name: &str, query: Query| Query { expr: query.expr.replace(name, RENAMED), ..query };
    let dashboards = queries::files("dashboards", "json")
        .into_iter()
        .flat_map(|(file, text)| queries::dashboard(&file, &text.replace("outbox_published_total", RENAMED)));
    let rules = queries::rules().into_iter().map(|query| rename("outbox_lease_epoch", query));
    for (kind, asked) in [("dashboards", dashboards.collect::<Vec<_>>()), ("rules", rules.collect())] {
        let ask_for_it = asked.iter().filter(|query| query.expr.contains(RENAMED));
        let ask_for_it: Vec<String> = ask_for_it.map(describe).collect();
        assert!(!ask_for_it.is_empty(), "nothing in {kind} asks for it");
        assert_eq!(prometheus.without_data(&asked).await?, ask_for_it, "{kind}");
    }
    Ok(())
}

/// Orders of every kind, while the provider is away, and the relay, a service and PostgreSQL are killed.
async fn hurt(home: &Home, endpoints: &Endpoints) -> anyhow::Result<()> {
    let ratios = ["--decline-ratio", "0.2", "--out-of-stock-ratio", "0.2", "--cancel-ratio", "0.2"];
    let mut load = Load::start(home, &[&["--rate", "30"], &ratios[..]].concat())?;
    let http = reqwest::Client::new();
    let outage = |on: bool| {
        let request = http.put(format!("http://{}/v1/outage", endpoints.provider)).json(&json!({ "on": on }));
        async move { anyhow::Ok(request.send().await?.error_for_status()?) }
    };
    load.accepted(60).await?;
    outage(true).await?;
    load.accepted(120).await?;
    outage(false).await?;
    let order = Endpoint::from_shared(format!("http://{}", endpoints.order))?.connect_lazy();
    let orders = OrderServiceClient::new(order);
    for name in ["outbox-relay", "billing", "postgres"] {
        kill(home, name)?;
        if name == "postgres" {
            until("a call finds no database", WITHIN, || {
                let mut orders = orders.clone();
                async move {
                    // It may be back before a call gives up: killed again, it stays away for longer each time.
                    kill(home, name)?;
                    let listed = orders.list_orders(ListOrdersRequest::default()).await;
                    Ok(listed.is_err_and(|status| status.code() == Code::Unavailable).then_some(()))
                }
            })
            .await?;
        }
        let back = format!("{name} is back");
        let back = home.when(&back, |record| {
            let again = record.processes.iter().find(|process| process.name == name);
            again.is_some_and(|again| again.restarts > 0 && again.state == ProcessState::Running)
        });
        load.during(back).await?;
        load.accepted(60).await?;
    }
    load.stop().await?;
    Ok(())
}

/// Kills a process of the platform, where it runs just now.
fn kill(home: &Home, name: &str) -> anyhow::Result<()> {
    let record = home.record()?.context("it is up")?;
    let process = record.processes.iter().find(|process| process.name == name).context("it is a part")?;
    if let Some(identity) = process.identity {
        identity.signal(Signal::SIGKILL);
    }
    Ok(())
}

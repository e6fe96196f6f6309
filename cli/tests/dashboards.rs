//! The dashboards of grafana/ keep every rule, each rule can be broken, and what they and the alerts name exists.

mod dashboard_lint;
mod queries;

use std::collections::BTreeSet;

use dashboard_lint::{is_known_metric, lint, lint_one, model::Dashboard};
use serde_json::{Value, json};

fn dashboards() -> Vec<Dashboard> {
    let files = queries::files("dashboards", "json");
    files.iter().map(|(file, text)| Dashboard::read(file, text)).collect()
}

/// The rules that are broken when this value stands at this place of the outbox dashboard.
fn broken_by(pointer: &str, value: Value) -> BTreeSet<&'static str> {
    let file = queries::grafana().join("dashboards/outbox.json");
    let text = std::fs::read_to_string(&file).expect("the dashboard");
    let mut json: Value = serde_json::from_str(&text).expect("JSON");
    *json.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
    let broken = Dashboard::read("dashboards/outbox.json", &json.to_string());
    let mut all = dashboards();
    all.retain(|dashboard| dashboard.file != broken.file);
    all.push(broken.clone());
    lint_one(&broken, &all).iter().map(|offence| offence.rule).collect()
}

#[test]
fn every_dashboard_keeps_every_rule() {
    let dashboards = dashboards();
    let uids: Vec<&str> = dashboards.iter().map(|dashboard| &*dashboard.uid).collect();
    assert_eq!(
        uids,
        ["consumers", "grpc", "orders", "outbox", "overview", "servers"]
            .map(|name| format!("orderly-{name}"))
    );
    let offences: Vec<String> = lint(&dashboards).iter().map(ToString::to_string).collect();
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn each_rule_can_be_broken() {
    // Panel 1 is a number, 9 shows a histogram over time, 10 links to another dashboard.
    let with = |selector: &str| selector.replace("US", r#"job=~"$job", instance=~"$instance""#);
    for (rule, pointer, value) in [
        ("template-datasource-rule", "/templating/list/0/name", json!("source")),
        ("template-datasource-rule", "/templating/list/0/query", json!("loki")),
        ("template-job-rule", "/templating/list/1/multi", json!(false)),
        ("template-job-rule", "/templating/list/1/datasource/uid", json!("main")),
        ("template-instance-rule", "/templating/list/2/allValue", json!(".*")),
        ("template-instance-rule", "/templating/list/2/name", json!("target")),
        ("template-label-promql-rule", "/templating/list/1/query", json!("label_values(outbox_up{, job)")),
        ("template-on-time-change-reload-rule", "/templating/list/1/refresh", json!(1)),
        ("panel-datasource-rule", "/panels/1/datasource/uid", json!("main")),
        ("panel-datasource-rule", "/panels/1/targets/0/datasource/uid", json!("main")),
        ("panel-title-description-rule", "/panels/1/title", json!("")),
        ("panel-title-description-rule", "/panels/1/description", json!("")),
        ("panel-units-rule", "/panels/1/fieldConfig/defaults/unit", json!("seconds")),
        ("panel-no-targets-rule", "/panels/1/targets", json!([])),
        ("target-promql-rule", "/panels/1/targets/0/expr", json!("sum (")),
        ("target-promql-rule", "/panels/1/targets/0/expr", json!("")),
        (
            "target-rate-interval-rule",
            "/panels/1/targets/0/expr",
            json!(with("rate(outbox_published_total{US}[5m])")),
        ),
        ("target-job-rule", "/panels/1/targets/0/expr", json!(r#"outbox_up{instance=~"$instance"}"#)),
        (
            "target-job-rule",
            "/panels/1/targets/0/expr",
            json!(r#"outbox_up{job="$job", instance=~"$instance"}"#),
        ),
        ("target-instance-rule", "/panels/1/targets/0/expr", json!(r#"outbox_up{job=~"$job"}"#)),
        (
            "target-counter-agg-rule",
            "/panels/1/targets/0/expr",
            json!(with("sum (outbox_published_total{US})")),
        ),
        (
            "target-counter-agg-rule",
            "/panels/1/targets/0/expr",
            json!(with("delta(outbox_published_total{US}[1h])")),
        ),
        ("uneditable-dashboard", "/editable", json!(true)),
        ("metric-rule", "/panels/1/targets/0/expr", json!(with("outbox_lag{US}"))),
        ("metric-rule", "/templating/list/1/query", json!("label_values(outbox, job)")),
        ("label-rule", "/panels/1/targets/0/expr", json!(with(r#"outbox_up{US, topic="x"}"#))),
        ("uid-rule", "/uid", json!("orderly-relay")),
        ("schema-rule", "/schemaVersion", json!(36)),
        ("size-rule", "/panels", json!([])),
        ("link-rule", "/links", json!([])),
        ("link-rule", "/tags", json!([])),
        ("link-rule", "/panels/10/links", json!([{"url": "/d/orderly-relay"}])),
        ("layout-rule", "/panels/1/gridPos/x", json!(1)),
        ("layout-rule", "/panels/1/gridPos/w", json!(25)),
        ("layout-rule", "/panels/1/id", json!(3)),
        ("exemplar-rule", "/panels/9/targets/0/exemplar", json!(false)),
        ("panel-type-rule", "/panels/1/type", json!("graph")),
    ] {
        let broken = broken_by(pointer, value.clone());
        assert!(broken.contains(rule), "{pointer} = {value} breaks {broken:?}, not {rule}");
        assert!(
            pointer.starts_with("/panels/") || broken.len() <= 2,
            "{pointer} = {value} breaks {broken:?}"
        );
    }
    assert!(broken_by("/panels/1/title", json!("another")).is_empty());
}

#[test]
fn what_is_provisioned_and_linked_exists() {
    let provisioned = queries::files("provisioning/datasources", "yaml").remove(0).1;
    let sources: Value = serde_norway::from_str(&provisioned).expect("YAML");
    let prometheus = &sources["datasources"][0];
    let exemplars = &prometheus["jsonData"]["exemplarTraceIdDestinations"][0];
    assert_eq!((&prometheus["type"], &exemplars["name"]), (&json!("prometheus"), &json!("trace_id")));
    assert_eq!(exemplars["datasourceUid"], sources["datasources"][1]["uid"]);

    let dashboards = dashboards();
    for (file, text) in queries::files("rules", "yml") {
        for link in text.lines().filter_map(|line| line.trim().strip_prefix("dashboard: /d/")) {
            assert!(dashboards.iter().any(|dashboard| dashboard.uid == link), "{file} links to {link}");
        }
    }
}

#[test]
fn a_renamed_metric_is_seen() {
    let mut seen = 0;
    for (file, text) in queries::files("dashboards", "json") {
        let renamed = text.replace("outbox_unpublished_events", "outbox_unpublished_rows");
        let offences = lint(&[Dashboard::read(&file, &renamed)]);
        seen +=
            offences.iter().filter(|offence| offence.wrong.contains("shows outbox_unpublished_rows")).count();
    }
    assert!(seen > 0);
}

#[test]
fn rules_name_metrics_that_exist() {
    let rules = queries::rules();
    let recorded: BTreeSet<&str> = rules.iter().map(|rule| &*rule.panel).collect();
    for rule in &rules {
        for metric in queries::metrics(&rule.expr) {
            let known = is_known_metric(&metric) || recorded.contains(&*metric);
            assert!(known, "{}: {}: nothing shows {metric}", rule.file, rule.panel);
        }
    }
    assert!(!rules.is_empty());
}

#[test]
fn every_metric_of_the_catalogue_is_on_a_dashboard_or_in_a_rule() {
    // Of use in a process's own page, in a label's place, or to whom another dashboard asks.
    const ASIDE: [&str; 10] = [
        "consumer_batch_records",
        "kafka_consumergroup_current_offset",
        "kafka_exporter_collect_duration_seconds",
        "kafka_topic_partition_current_offset",
        "kafka_topic_partition_oldest_offset",
        "kafka_topic_partition_under_replicated_partition",
        "kafka_topic_partitions",
        "orderly_build_info",
        "process_threads",
        "process_virtual_memory_bytes",
    ];
    let asked: BTreeSet<String> = queries::dashboards()
        .iter()
        .chain(&queries::rules())
        .flat_map(|query| queries::metrics(&query.expr))
        .collect();
    let is_asked = |name: &str| {
        let parts = ["", "_bucket", "_sum", "_count"];
        parts.iter().any(|suffix| asked.contains(&format!("{name}{suffix}")))
    };
    let metrics = telemetry::catalogue::ALL.iter().flat_map(|section| section.metrics);
    let unasked: Vec<&str> =
        metrics.map(|metric| metric.name).filter(|name| !is_asked(name) && !ASIDE.contains(name)).collect();
    assert!(unasked.is_empty(), "nobody looks at {unasked:?}");
}

#[test]
fn queries_are_taken_apart() {
    let expr =
        r#"sum by (a) (rate(x_bucket{le="1", job=~".+"}[1m] offset 5m)) / on () (y{z!="$"} or vector(0))"#;
    assert_eq!(queries::selectors(expr), [r#"x_bucket{job=~".+",le="1"}"#, r#"y{z!="$"}"#]);
    assert_eq!(Vec::from_iter(queries::metrics(r#"{__name__=~"a|b"} + c"#)), ["a", "b", "c"]);
    let values = [("__range_s", "1"), ("__range", "2")];
    assert_eq!(queries::expand("$__range_s ${__range}s $a.$", &values, Some("x")), "1 2s x.$");
    assert_eq!(queries::expand(r#""$job" [$__range]"#, &values, None), r#""$job" [2]"#);
}

#[test]
fn what_runs_live_has_no_variable_left() {
    let queries = queries::dashboards();
    for query in &queries {
        assert!(!query.expr.contains('$'), "{query:?}");
        assert!(!queries::selectors(&query.expr).is_empty(), "{query:?}");
    }
    assert!(queries.len() > 100);
}

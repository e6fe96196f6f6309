//! Rules of our own: what is named exists, what is linked resolves, what is shown can be seen.

use promql_parser::parser;
use telemetry::{Kind, catalogue};

use super::{
    Offences,
    model::{Dashboard, Panel},
    place,
    target::parsable,
};
use crate::queries::{asked_of_label, names, uses};

/// What is asked of Prometheus itself, of `postgres_exporter` 0.11, of the JMX exporter with its rules in grafana/, and of
/// its Java.
const FOREIGN: &[&str] = &[
    "ALERTS",
    "up",
    "jvm_gc_collection_seconds_sum",
    "jvm_memory_max_bytes",
    "jvm_memory_used_bytes",
    "kafka_controller_kafkacontroller_activecontrollercount",
    "kafka_controller_kafkacontroller_offlinepartitionscount",
    "kafka_log_log_size_bytes",
    "kafka_network_requestchannel_queue_size",
    "kafka_network_requestmetrics_requestqueuetime_seconds",
    "kafka_network_requestmetrics_requests_total",
    "kafka_network_requestmetrics_totaltime_seconds",
    "kafka_server_brokertopicmetrics_bytesin_total",
    "kafka_server_brokertopicmetrics_bytesout_total",
    "kafka_server_brokertopicmetrics_failedfetchrequests_total",
    "kafka_server_brokertopicmetrics_failedproducerequests_total",
    "kafka_server_brokertopicmetrics_messagesin_total",
    "kafka_server_replicamanager_partitioncount",
    "kafka_server_replicamanager_underreplicatedpartitions",
    "kafka_server_requesthandler_idle_ratio",
    "pg_database_size_bytes",
    "pg_locks_count",
    "pg_settings_max_connections",
    "pg_stat_activity_count",
    "pg_stat_activity_max_tx_duration",
    "pg_stat_bgwriter_buffers_backend_total",
    "pg_stat_bgwriter_buffers_checkpoint_total",
    "pg_stat_bgwriter_buffers_clean_total",
    "pg_stat_bgwriter_checkpoints_req_total",
    "pg_stat_bgwriter_checkpoints_timed_total",
    "pg_stat_database_blks_hit",
    "pg_stat_database_blks_read",
    "pg_stat_database_deadlocks",
    "pg_stat_database_xact_commit",
    "pg_stat_database_xact_rollback",
    "pg_up",
];
/// What a person sees at a glance, and what fits a screen or three.
const PANELS: std::ops::RangeInclusive<usize> = 8..=18;
const COLUMNS: u32 = 24;

pub fn check(dashboard: &Dashboard, all: &[Dashboard], offences: &mut Offences) {
    check_identity(dashboard, all, offences);
    check_links(dashboard, all, offences);
    check_layout(dashboard, offences);
    check_metrics(dashboard, offences);
    for panel in dashboard.contents() {
        let place = &place(dashboard, panel);
        let known = matches!(&*panel.kind, "stat" | "timeseries" | "alertlist");
        offences.of("panel-type-rule", place, known, format!("is of {}, which no rule reads", panel.kind));
        for target in &panel.targets {
            let traced = !target.range || !target.expr.contains("_bucket{") || target.exemplar;
            offences.of("exemplar-rule", place, traced, format!("{} has no exemplars", target.expr));
        }
    }
}

/// Whether a metric is one that something shows.
pub fn is_known_metric(name: &str) -> bool {
    FOREIGN.contains(&name) || labels(name).is_some()
}

/// The labels of a metric of the catalogue, by a name that is scraped.
fn labels(name: &str) -> Option<Vec<&'static str>> {
    let metrics = catalogue::ALL.iter().flat_map(|section| section.metrics);
    let scraped = |metric: &&telemetry::Definition<&'static [&'static str]>| match metric.kind {
        Kind::Histogram(_) => {
            name.strip_prefix(metric.name).is_some_and(|rest| matches!(rest, "_bucket" | "_sum" | "_count"))
        }
        Kind::Counter | Kind::Gauge => metric.name == name,
    };
    let metric = metrics.clone().find(scraped)?;
    let bucket = name.ends_with("_bucket").then_some("le");
    Some(metric.labels.iter().copied().chain(bucket).chain(["job", "instance", "__name__"]).collect())
}

fn check_metrics(dashboard: &Dashboard, offences: &mut Offences) {
    let variables = dashboard.templating.list.iter().filter_map(|variable| asked_of_label(&variable.query));
    let annotations = dashboard.annotations.list.iter().map(|annotation| &*annotation.expr);
    let targets = dashboard.contents().flat_map(|panel| &panel.targets).map(|target| &*target.expr);
    for asked in variables.chain(annotations).chain(targets) {
        // What cannot be parsed is another rule's.
        let Ok(expr) = parser::parse(&parsable(asked)) else { continue };
        for found in uses(&expr) {
            for name in names(found.selector) {
                let place = &dashboard.file;
                offences.of(
                    "metric-rule",
                    place,
                    is_known_metric(&name),
                    format!("nothing shows {name}: {asked}"),
                );
                let Some(labels) = labels(&name) else { continue };
                for matcher in &found.selector.matchers.matchers {
                    let label = &*matcher.name;
                    let known = labels.contains(&label);
                    offences.of("label-rule", place, known, format!("{name} has no label {label}: {asked}"));
                }
            }
        }
    }
}

fn check_identity(dashboard: &Dashboard, all: &[Dashboard], offences: &mut Offences) {
    let same =
        all.iter().filter(|other| other.uid == dashboard.uid || other.title == dashboard.title).count();
    let named = dashboard.file.strip_suffix(".json").and_then(|file| file.rsplit('/').next());
    let stable = dashboard.uid.strip_prefix("orderly-") == named;
    let place = &dashboard.file;
    offences.of("uid-rule", place, same == 1 && stable, format!("its uid {} is not its own", dashboard.uid));
    let classic = (39..=42).contains(&dashboard.schema_version);
    offences.of("schema-rule", place, classic, format!("has schema version {}", dashboard.schema_version));
    let panels = dashboard.contents().count();
    offences.of("size-rule", place, PANELS.contains(&panels), format!("has {panels} panels"));
}

fn check_links(dashboard: &Dashboard, all: &[Dashboard], offences: &mut Offences) {
    let place = &dashboard.file;
    let linked = dashboard.links.iter().find(|link| link.kind == "dashboards");
    let reached = linked
        .is_some_and(|link| all.iter().all(|other| link.tags.iter().all(|tag| other.tags.contains(tag))));
    offences.of("link-rule", place, reached, "does not link to all others by a tag");
    for panel in dashboard.contents() {
        for link in &panel.links {
            let uid = link.url.strip_prefix("/d/").and_then(|rest| rest.split('?').next());
            let resolves = uid.is_some_and(|uid| all.iter().any(|other| other.uid == uid));
            offences.of(
                "link-rule",
                self::place(dashboard, panel),
                resolves,
                format!("links to {}", link.url),
            );
        }
    }
}

fn check_layout(dashboard: &Dashboard, offences: &mut Offences) {
    for (at, panel) in dashboard.panels.iter().enumerate() {
        let rect = panel.grid_pos;
        let fits = rect.w > 0 && rect.h > 0 && rect.x + rect.w <= COLUMNS;
        offences.of("layout-rule", place(dashboard, panel), fits, format!("lies at {rect:?}"));
        for other in &dashboard.panels[at + 1..] {
            let wrong = format!("overlaps {}, or has its id", other.title);
            let apart = panel.id != other.id && !overlap(panel, other);
            offences.of("layout-rule", place(dashboard, panel), apart, wrong);
        }
    }
}

fn overlap(one: &Panel, other: &Panel) -> bool {
    let (a, b) = (one.grid_pos, other.grid_pos);
    a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h
}

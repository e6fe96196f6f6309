//! docs/TELEMETRY.md is made from the catalogue of metrics; `make docs` writes it anew.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use telemetry::{Kind, catalogue};

const INTRODUCTION: &str = "\
# Telemetry

What every process shows of itself. This page is made from the code (`make docs`), and a test compares the two.
`make up OBSERVE=1` starts Prometheus with everything below, the alerts of `grafana/rules` and, where a Grafana is
installed, the dashboards of `grafana/dashboards`; `docs/runbooks` has a page for each alert.

## Traces

One trace follows an order from the call to the last notification. A process sends its spans by OTLP over gRPC where
`OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set; a collector that is slow or gone costs
spans, never requests. One in twenty of the traces that begin here is recorded, and every one that a caller samples;
`OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` choose otherwise. `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`,
`OTEL_SDK_DISABLED`, `OTEL_TRACES_EXPORTER=none`, `OTEL_BSP_*` and the other `OTEL_EXPORTER_OTLP_*` variables mean what
their specification says. Names and attributes are those of the semantic conventions 1.44 for RPC, messaging, HTTP and
databases.

| span | kind | by | parent | links to |
|---|---|---|---|---|
| `orderly.order.v1.OrderService/CreateOrder`, and every other call | server | the service | the caller's `traceparent` | |
| `create <topic>` | producer | who writes the event into its outbox | what causes the event | |
| `wait outbox` | internal | outbox-relay | `create` | |
| `send <topic>` | client | outbox-relay | `create` | `create` |
| `wait <topic>` | internal | the consumer | `create` | |
| `process <topic>` | consumer | the consumer | `create` | `create`; in a batch `process batch` |
| `process <topic>`, once more: redelivered or replayed | consumer | the consumer | none: a trace of its own | `create` |
| `process batch` | consumer | the consumer, for the SQL that a batch shares | none | each `create` of it, at most 128 |
| `place batch`, `settle batch`, `deliver batch` | internal | order, billing, notification, for a transaction that several share | none | each of them, at most 128 |
| `pass deadline` | internal | order, for an answer that did not come | none | |
| `announce products` | internal | inventory, once a day | none | |
| `charge payment`, `refund payment` | internal | billing, one for each attempt | `process` of the record that asked for it | |
| `POST` | client | billing's call to the provider, notification's to a webhook | the attempt; `process` of the record that asked for it | |
| `send mail` | client | notification | `process` of the record that asked for it | |
| `deliver log` | internal | notification | the same | |
| `settle delivery` | internal | notification, for the outcome of mail and webhook | the same | |
| a statement's summary | client | whoever runs it, inside a recorded span | that span | |

The context of `create` is in the record's `traceparent` and `tracestate` headers, and nobody rewrites it. Times between
processes are their own spans: `wait outbox` from append to producer, `wait <topic>` from the record's time to the batch.

## Logs

Lines on standard error, for people or, with `--log-format json`, one JSON object a line. `RUST_LOG` says what is logged
(`info`). A line inside a span has its `trace_id` and `span_id`. Passwords, payment tokens and e-mail addresses are never
logged. A reader that is too slow costs lines, counted in `log_lines_dropped_total`.

## Metrics

On `/metrics` of each admin port, in text format 0.0.4, or in OpenMetrics where that is asked for. OpenMetrics has
exemplars: the observations of a histogram name the trace in which they were made, where it is recorded. Every duration is
in seconds; no label is an order, a customer or an address.
";

#[test]
fn the_page_is_the_catalogue() -> anyhow::Result<()> {
    let mut page = INTRODUCTION.to_owned();
    for section in catalogue::ALL {
        write!(page, "\n### {}\n\nShown by {}.\n\n", section.title, section.shown_by)?;
        page.push_str("| metric | type | labels | meaning |\n|---|---|---|---|\n");
        for metric in section.metrics {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            writeln!(page, "| `{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.help)?;
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/TELEMETRY.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page)?;
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/TELEMETRY.md is not what the code shows: run `make docs`");
    Ok(())
}

/// Two metrics of one name would be one metric with two meanings.
#[test]
fn names_are_unique_and_follow_the_conventions() {
    let mut names = BTreeSet::new();
    for metric in catalogue::ALL.iter().flat_map(|section| section.metrics) {
        assert!(names.insert(metric.name), "{} is there twice", metric.name);
        let is_total = metric.name.ends_with("_total");
        assert_eq!(is_total, matches!(metric.kind, Kind::Counter), "{}: counters end in _total", metric.name);
        assert!(!metric.help.ends_with('.') && !metric.help.contains('|'), "{}", metric.name);
    }
}

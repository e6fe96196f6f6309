//! Rules about queries.

use std::time::Duration;

use promql_parser::{
    label::{MatchOp, Matcher},
    parser::{self, VectorSelector},
};

use super::{Offences, model::Dashboard, place};
use crate::queries::{expand, names, uses};

/// Ranges that nobody writes, in place of Grafana's, so that they can be told from written ones.
const RATE_INTERVAL: Duration = Duration::from_secs(7919);
const SAMPLES: [(&str, &str); 3] =
    [("__rate_interval", "7919s"), ("__interval", "7907s"), ("__range", "7901s")];

pub fn check(dashboard: &Dashboard, offences: &mut Offences) {
    for panel in dashboard.contents() {
        let place = &place(dashboard, panel);
        for target in &panel.targets {
            let asked = &target.expr;
            let expr = match parser::parse(&parsable(asked)) {
                Ok(expr) => expr,
                Err(error) => {
                    offences.of("target-promql-rule", place, false, format!("{asked}: {error}"));
                    continue;
                }
            };
            for found in uses(&expr) {
                let selector = found.selector;
                let by_rate = matches!(found.function, Some("rate" | "irate"));
                let interval = !by_rate || found.range == Some(RATE_INTERVAL);
                offences.of("target-rate-interval-rule", place, interval, format!("{asked}: {selector}"));
                for (rule, label) in [("target-job-rule", "job"), ("target-instance-rule", "instance")] {
                    offences.of(
                        rule,
                        place,
                        matches_variable(selector, label),
                        format!("{asked}: {selector}"),
                    );
                }
                let counter = names(selector).iter().any(|name| name.ends_with("_total"));
                let grows = by_rate || found.function == Some("increase");
                let rule = "target-counter-agg-rule";
                offences.of(
                    rule,
                    place,
                    !counter || (grows && found.range.is_some()),
                    format!("{asked}: {selector}"),
                );
            }
        }
    }
}

/// A query with samples where Grafana puts values; variables in quotes stay.
pub fn parsable(expr: &str) -> String {
    expand(expr, &SAMPLES, None)
}

/// Whether a selector has `label=~"$label"`.
fn matches_variable(selector: &VectorSelector, label: &str) -> bool {
    let chosen = |matcher: &Matcher| {
        matcher.name == label
            && matches!(matcher.op, MatchOp::Re(_))
            && matcher.value.strip_prefix('$') == Some(label)
    };
    selector.matchers.matchers.iter().any(chosen)
}

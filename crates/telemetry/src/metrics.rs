//! One registry a process, in the two formats that Prometheus reads.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::text::encode,
    metrics::gauge::ConstGauge,
    registry::{Registry, Unit},
};

/// The process's metrics; clones share one registry.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the registry to whoever registers metrics, and returns what that makes.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds what every process has: when it started and what it is. Once a process.
    pub fn describe(&self, name: &'static str, version: &'static str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.register(|registry| {
            registry.register_with_unit(
                "process_start_time",
                "When the process started, since the epoch",
                Unit::Seconds,
                ConstGauge::new(now.as_secs_f64()),
            );
            let labels = [("service".into(), name.into()), ("version".into(), version.into())];
            registry.sub_registry_with_labels(labels.into_iter()).register(
                "orderly_build_info",
                "1, with what is running",
                ConstGauge::new(1_i64),
            );
        });
    }

    /// OpenMetrics 1.0 text.
    pub fn openmetrics(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail; a metric that encodes itself wrongly would cut the text.
        let _ = encode(&mut text, &self.0.lock().unwrap_or_else(PoisonError::into_inner));
        text
    }

    /// Prometheus text format 0.0.4.
    pub fn text(&self) -> String {
        to_text_format(&self.openmetrics())
    }
}

/// OpenMetrics as text format 0.0.4: counters are typed by their sample's name, units, exemplars and the end mark go.
fn to_text_format(openmetrics: &str) -> String {
    let mut counters = Vec::new();
    for line in openmetrics.lines() {
        if let Some(name) = line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" counter")) {
            counters.push(name);
        }
    }
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        match comment(line) {
            Some((keyword, name, rest)) if counters.contains(&name) => {
                text.push_str(&format!("# {keyword} {name}_total {rest}"));
            }
            Some(_) => text.push_str(line),
            None => text.push_str(without_exemplar(line)),
        }
        text.push('\n');
    }
    text
}

/// The parts of a `# HELP` or `# TYPE` line.
fn comment(line: &str) -> Option<(&str, &str, &str)> {
    let (keyword, rest) = line.strip_prefix("# ")?.split_once(' ')?;
    let (name, rest) = rest.split_once(' ')?;
    Some((keyword, name, rest))
}

/// A sample up to its exemplar, which begins with the first hash outside the quotes of a label.
fn without_exemplar(sample: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    let exemplar = sample.bytes().position(|byte| {
        if byte == b'"' && !escaped {
            quoted = !quoted;
        }
        escaped = byte == b'\\' && !escaped;
        byte == b'#' && !quoted
    });
    exemplar.map_or(sample, |at| sample[..at].trim_end())
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

    use super::*;

    #[test]
    fn counters_are_typed_by_the_name_of_their_samples() {
        let metrics = Metrics::new();
        let (counter, gauge) = (Counter::<u64>::default(), <Gauge>::default());
        metrics.register(|registry| {
            registry.register("records", "Records read", counter.clone());
            registry.register("lag", "Records to read", gauge.clone());
        });
        counter.inc_by(3);
        gauge.set(7);
        assert_eq!(
            metrics.text(),
            "# HELP records_total Records read.\n# TYPE records_total counter\nrecords_total 3\n\
             # HELP lag Records to read.\n# TYPE lag gauge\nlag 7\n"
        );
        assert!(metrics.openmetrics().ends_with("# EOF\n"));
    }

    #[test]
    fn exemplars_and_units_go() {
        let text =
            to_text_format("# UNIT a_seconds seconds\na_bucket{le=\"1\"} 2 # {trace_id=\"x\"} 0.5\n# EOF\n");
        assert_eq!(text, "a_bucket{le=\"1\"} 2\n");
    }

    #[test]
    fn a_hash_in_a_label_is_no_exemplar() {
        for (sample, expected) in [
            (r#"a{b="x # \"y\" # {"} 1 # {id="2"} 3"#, r#"a{b="x # \"y\" # {"} 1"#),
            (r#"a{b="\\"} 1 # {id="2"} 3"#, r#"a{b="\\"} 1"#),
            ("a 1", "a 1"),
        ] {
            assert_eq!(without_exemplar(sample), expected);
        }
    }

    #[test]
    fn a_process_says_what_it_is() {
        let metrics = Metrics::new();
        metrics.describe("billing", "1.2.3");
        let text = metrics.text();
        assert!(text.contains("orderly_build_info{service=\"billing\",version=\"1.2.3\"} 1\n"), "{text}");
        assert!(text.contains("\nprocess_start_time_seconds "), "{text}");
    }
}

//! From OpenMetrics to text format 0.0.4, which is all that `promtool check metrics` reads.

/// OpenMetrics as text format 0.0.4: counters are typed by their sample's name, units, exemplars and the end mark go.
pub(super) fn from_openmetrics(openmetrics: &str) -> String {
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
    use super::*;

    #[test]
    fn exemplars_and_units_go() {
        let text = from_openmetrics(
            "# UNIT a_seconds seconds\na_bucket{le=\"1\"} 2 # {trace_id=\"x\"} 0.5\n# EOF\n",
        );
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
}

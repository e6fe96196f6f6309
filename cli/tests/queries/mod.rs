//! Every query of grafana/: what the dashboards and the rules ask Prometheus, and what these questions name.

// Each test uses a part of it.
#![allow(dead_code)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use promql_parser::{
    label::{MatchOp, Matcher},
    parser::{self, Expr, VectorSelector},
};
use serde::Deserialize;
use serde_json::Value;

/// What Grafana replaces, longest first, with what it may be in a live run. All other variables match everything.
const LIVE: [(&str, &str); 6] = [
    ("__rate_interval", "1m"),
    ("__interval_ms", "15000"),
    ("__interval", "15s"),
    ("__range_ms", "1800000"),
    ("__range_s", "1800"),
    ("__range", "30m"),
];

/// A question to Prometheus.
#[derive(Clone, Debug)]
pub struct Query {
    /// The file below grafana/ that asks it.
    pub file: String,
    /// The panel's title, `variable <name>`, or the name of an alert or of a recorded series.
    pub panel: String,
    /// The question, in a form that Prometheus takes.
    pub expr: String,
}

/// A vector selector and what is done with it.
pub struct Use<'a> {
    /// The selector, without its range.
    pub selector: &'a VectorSelector,
    /// The range, where it has one.
    pub range: Option<Duration>,
    /// The function that takes it, where it is an argument itself.
    pub function: Option<&'a str>,
}

/// Every query of every panel and variable of the dashboards, its variables replaced for a live run.
pub fn dashboards() -> Vec<Query> {
    files("dashboards", "json").into_iter().flat_map(|(file, text)| dashboard(&file, &text)).collect()
}

/// The same of one dashboard's text.
pub fn dashboard(file: &str, text: &str) -> Vec<Query> {
    let dashboard: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let query = |panel: String, expr: &str| Query {
        file: file.to_owned(),
        panel,
        expr: expand(expr, &LIVE, Some(".+")),
    };
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let variables = list(&dashboard["templating"]["list"]).into_iter().filter_map(|variable| {
        let asked = text(&variable, "query");
        asked_of_label(&asked).map(|expr| query(format!("variable {}", text(&variable, "name")), expr))
    });
    let panels = list(&dashboard["panels"]).into_iter().flat_map(|panel| {
        let title = text(&panel, "title");
        let targets = list(&panel["targets"]).into_iter();
        targets.map(|target| query(title.clone(), &text(&target, "expr"))).collect::<Vec<_>>()
    });
    variables.chain(panels).collect()
}

/// Every expression of every alert and recorded series.
pub fn rules() -> Vec<Query> {
    #[derive(Deserialize)]
    struct File {
        groups: Vec<Group>,
    }
    #[derive(Deserialize)]
    struct Group {
        rules: Vec<Rule>,
    }
    #[derive(Deserialize)]
    struct Rule {
        alert: Option<String>,
        record: Option<String>,
        expr: String,
    }
    let mut queries = Vec::new();
    for (file, text) in files("rules", "yml") {
        let parsed: File = serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        for rule in parsed.groups.into_iter().flat_map(|group| group.rules) {
            let panel = rule.alert.or(rule.record).unwrap_or_else(|| panic!("{file}: a rule without a name"));
            queries.push(Query { file: file.clone(), panel, expr: rule.expr });
        }
    }
    queries
}

/// Every vector selector of an expression as text, without range and offset.
pub fn selectors(expr: &str) -> Vec<String> {
    let of =
        |selector: &VectorSelector| VectorSelector { offset: None, at: None, ..selector.clone() }.to_string();
    uses(&parse(expr)).iter().map(|found| of(found.selector)).collect()
}

/// The names of an expression's metrics, as they are scraped: with `_bucket`, `_count`, `_sum`.
pub fn metrics(expr: &str) -> BTreeSet<String> {
    uses(&parse(expr)).iter().flat_map(|found| names(found.selector)).collect()
}

/// The metrics of a selector: one, or those of `__name__=~"a|b"`.
pub fn names(selector: &VectorSelector) -> Vec<String> {
    let named = |matcher: &&Matcher| matcher.name == "__name__";
    let by_matcher = selector.matchers.matchers.iter().filter(named).flat_map(|matcher| match matcher.op {
        MatchOp::Equal | MatchOp::Re(_) => matcher.value.split('|').map(str::to_owned).collect(),
        MatchOp::NotEqual | MatchOp::NotRe(_) => Vec::new(),
    });
    selector.name.clone().into_iter().chain(by_matcher).collect()
}

/// Every vector selector of an expression, with its range and the function around it.
pub fn uses(expr: &Expr) -> Vec<Use<'_>> {
    fn visit<'a>(expr: &'a Expr, function: Option<&'a str>, found: &mut Vec<Use<'a>>) {
        match expr {
            Expr::VectorSelector(selector) => found.push(Use { selector, range: None, function }),
            Expr::MatrixSelector(matrix) => {
                found.push(Use { selector: &matrix.vs, range: Some(matrix.range), function });
            }
            Expr::Call(call) => {
                call.args.args.iter().for_each(|argument| visit(argument, Some(call.func.name), found));
            }
            Expr::Aggregate(aggregate) => {
                visit(&aggregate.expr, None, found);
                aggregate.param.iter().for_each(|parameter| visit(parameter, None, found));
            }
            Expr::Binary(binary) => {
                visit(&binary.lhs, None, found);
                visit(&binary.rhs, None, found);
            }
            Expr::Unary(unary) => visit(&unary.expr, None, found),
            Expr::Paren(paren) => visit(&paren.expr, None, found),
            Expr::Subquery(subquery) => visit(&subquery.expr, None, found),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
        }
    }
    let mut found = Vec::new();
    visit(expr, None, &mut found);
    found
}

/// The expression in `label_values(expression, label)`.
pub fn asked_of_label(query: &str) -> Option<&str> {
    let arguments = query.strip_prefix("label_values(")?.strip_suffix(')')?;
    arguments.rsplit_once(',').map(|(expr, _label)| expr.trim())
}

/// Replaces `$name` and `${name}`: the names of `values` by theirs, outside of quotes or in them, all others by `other`
/// or not at all.
pub fn expand(expr: &str, values: &[(&str, &str)], other: Option<&str>) -> String {
    let mut expanded = String::with_capacity(expr.len());
    let mut rest = expr;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, end) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, _)) => (name, name.len() + 2),
            None => {
                let end = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len());
                (&after[..end], end)
            }
        };
        let value = values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).or(other);
        match value {
            Some(value) if !name.is_empty() => expanded.push_str(value),
            _ => expanded.push_str(&rest[at..at + 1 + end]),
        }
        rest = &after[end..];
    }
    expanded + rest
}

/// The files of a folder of grafana/ with their paths below it, in order.
pub fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let folder = grafana().join(folder);
    let listed = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.strip_prefix(grafana()).unwrap_or(&path).display().to_string();
        (name, text)
    };
    paths.into_iter().map(read).collect()
}

/// The repository's folder grafana/.
pub fn grafana() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../grafana")
}

fn parse(expr: &str) -> Expr {
    parser::parse(expr).unwrap_or_else(|error| panic!("{expr}: {error}"))
}

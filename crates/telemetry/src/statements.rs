//! A span for each SQL statement that runs within a recorded span, from what sqlx logs of it.
//!
//! By the semantic conventions for databases (stable):
//! <https://opentelemetry.io/docs/specs/semconv/database/database-spans/>. Statements are written in the code and their
//! values are bound, so their text has no data in it. sqlx tells that a statement has ended, not how: the error of one that
//! failed is that of the span around it.

use std::{
    fmt,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use opentelemetry::{KeyValue, trace::SpanKind};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    subscriber::Interest,
};
use tracing_subscriber::{Layer, filter::dynamic_filter_fn, layer, registry::LookupSpan};

use crate::{propagation, span::Finished};

/// Where sqlx logs statements.
const TARGET: &str = "sqlx::query";
/// The longest summary (`db.query.summary`).
const MAX_SUMMARY: usize = 255;

static DATABASE: OnceLock<Vec<KeyValue>> = OnceLock::new();

/// Says which database the statements of this process go to; the first time counts.
pub fn describe_database(name: &str, host: &str, port: u16) {
    let _ = DATABASE.set(vec![
        KeyValue::new("db.namespace", name.to_owned()),
        KeyValue::new("server.address", host.to_owned()),
        KeyValue::new("server.port", i64::from(port)),
    ]);
}

/// The layer, which sees nothing but statements within recorded spans.
pub fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
{
    Statements.with_filter(filter())
}

fn filter<S>() -> impl layer::Filter<S>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
{
    dynamic_filter_fn(|metadata: &Metadata<'_>, _: &layer::Context<'_, S>| {
        metadata.target() == TARGET && propagation::current().is_sampled()
    })
    .with_max_level_hint(LevelFilter::DEBUG)
    // All else is decided once.
    .with_callsite_filter(|metadata| {
        if metadata.target() == TARGET { Interest::sometimes() } else { Interest::never() }
    })
}

struct Statements;

impl<S: Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        let end = SystemTime::now();
        let mut statement = Statement::default();
        event.record(&mut statement);
        let parent = propagation::current();
        let text = match statement.text.trim() {
            "" => statement.start,
            text => text.to_owned(),
        };
        let summary = summary(&text);
        let elapsed = Duration::try_from_secs_f64(statement.seconds).unwrap_or_default();
        let mut attributes = vec![
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.query.summary", summary.clone()),
            KeyValue::new("db.query.text", text),
        ];
        attributes.extend(DATABASE.get().into_iter().flatten().cloned());
        Finished {
            name: summary.into(),
            kind: SpanKind::Client,
            parent: &parent,
            links: &[],
            start: end - elapsed,
            end,
            attributes,
            error: None,
        }
        .record();
    }
}

/// What sqlx says of a statement.
#[derive(Default)]
struct Statement {
    /// Its first words; all of it where it has no more.
    start: String,
    /// All of it, or nothing.
    text: String,
    seconds: f64,
}

impl Visit for Statement {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => self.start = value.to_owned(),
            "db.statement" => self.text = value.to_owned(),
            _ => {}
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "elapsed_secs" {
            self.seconds = value;
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// The operations and the tables of a statement, in their order: `INSERT orders`.
fn summary(sql: &str) -> String {
    let words = sql.lines().filter_map(|line| line.split("--").next()).flat_map(str::split_whitespace);
    let (mut summary, mut before) = (String::new(), String::new());
    for word in words {
        let upper = word.trim_matches(|letter: char| !letter.is_alphanumeric()).to_ascii_uppercase();
        let is_operation = matches!(
            upper.as_str(),
            "SELECT"
                | "INSERT"
                | "UPDATE"
                | "DELETE"
                | "MERGE"
                | "TRUNCATE"
                | "LOCK"
                | "BEGIN"
                | "COMMIT"
                | "ROLLBACK"
                | "SAVEPOINT"
                | "RELEASE"
                | "SET"
                | "NOTIFY"
                | "LISTEN"
        );
        // `FOR UPDATE` and `DO UPDATE SET` are no operations, and a column may be called like one.
        let is_clause =
            matches!(before.as_str(), "FOR" | "DO" | "KEY") || (upper == "SET" && !summary.is_empty());
        let is_target = matches!(before.as_str(), "FROM" | "INTO" | "JOIN")
            || (before == "UPDATE" && summary.ends_with("UPDATE"));
        let part = if is_target {
            table(word)
        } else if is_operation && !is_clause {
            Some(upper.as_str())
        } else {
            None
        };
        if let Some(part) = part {
            if summary.len() + part.len() >= MAX_SUMMARY {
                break;
            }
            if !summary.is_empty() {
                summary.push(' ');
            }
            summary.push_str(part);
        }
        before = upper;
    }
    if summary.is_empty() { "SQL".to_owned() } else { summary }
}

/// The name of a table, where this is one and no subquery or function.
fn table(word: &str) -> Option<&str> {
    let name = word.trim_end_matches([',', ';', ')']);
    let is_name = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '.' | '"');
    (!name.is_empty() && name.chars().all(is_name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_operations_and_tables() {
        for (sql, expected) in [
            ("BEGIN", "BEGIN"),
            ("INSERT INTO payments (a) VALUES ($1) ON CONFLICT (a) DO UPDATE SET b = 1", "INSERT payments"),
            ("-- Why.\nselect a from inbox.fence where a = $1 for update", "SELECT inbox.fence"),
            (
                "WITH due AS MATERIALIZED (\n SELECT id FROM payments -- due\n) UPDATE payments SET a = 1 FROM due",
                "SELECT payments UPDATE payments due",
            ),
            ("select * from unnest($1::text[]) as t (x)", "SELECT"),
            ("set local synchronous_commit = on", "SET"),
            ("", "SQL"),
        ] {
            assert_eq!(summary(sql), expected, "{sql}");
        }
    }
}

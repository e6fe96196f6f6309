//! The alerts of grafana/rules: promtool finds nothing wrong, each fires in a test and keeps still in another, and its
//! runbook is there and names commands and metrics that exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use clap::CommandFactory as _;
use promql_parser::{
    parser::Expr,
    util::visitor::{ExprVisitor, walk_expr},
};
use serde::{Deserialize, de::DeserializeOwned};
use telemetry::Kind;

const RUNBOOKS: &str = "https://github.com/orderly/orderly/blob/main/docs/runbooks/";
/// What stands for every `$VARIABLE` of a runbook's command: it is a key, a topic and an id.
const VALUE: &str = "01990000-0000-7000-8000-000000000000";

type Labels = BTreeMap<String, String>;

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

/// An alert or a recorded series.
#[derive(Deserialize)]
struct Rule {
    #[serde(default)]
    alert: String,
    #[serde(default)]
    record: String,
    expr: String,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    annotations: Labels,
}

#[derive(Deserialize)]
struct TestFile {
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    alert_rule_test: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    alertname: String,
    exp_alerts: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    exp_labels: Labels,
}

impl Rule {
    /// Whether this rule fires somewhere in a test; `None` where the test does not ask about its alert.
    fn fires_in(&self, case: &Case) -> Option<bool> {
        let is_mine = |alert: &Expected| {
            self.labels.iter().all(|(name, value)| alert.exp_labels.get(name) == Some(value))
        };
        let fires = |check: &Check| check.exp_alerts.iter().any(is_mine);
        let mut checks = case.alert_rule_test.iter().filter(|check| check.alertname == self.alert).peekable();
        checks.peek()?;
        Some(checks.any(fires))
    }
}

#[test]
fn promtool_finds_nothing_wrong() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal"], &files("grafana/rules", "yml"));
    promtool(&["test", "rules"], &files("grafana/rules/tests", "yml"));
}

/// A near miss is a test of its own: that an alert keeps still before it fires says only that it waits.
#[test]
fn every_rule_fires_in_one_test_and_keeps_still_in_another() {
    let tests: Vec<Case> =
        read_all::<TestFile>("grafana/rules/tests").into_iter().flat_map(|file| file.tests).collect();
    for rule in alerts() {
        let seen: BTreeSet<bool> = tests.iter().filter_map(|case| rule.fires_in(case)).collect();
        assert!(seen.contains(&true), "{} {:?} fires in no test", rule.alert, rule.labels);
        assert!(seen.contains(&false), "{} {:?} has no near miss", rule.alert, rule.labels);
    }
}

#[test]
fn every_alert_says_what_it_is_and_what_to_do() {
    for Rule { alert, labels, annotations, .. } in alerts() {
        let severity = labels.get("severity").map(String::as_str);
        assert!(
            matches!(severity, Some("critical" | "warning" | "info")),
            "{alert} has the severity {severity:?}"
        );
        assert!(labels.contains_key("service") || labels.contains_key("component"), "{alert}: of what?");
        let annotation = |name: &str| {
            let text = annotations.get(name).map(String::as_str).unwrap_or_default();
            assert!(!text.is_empty(), "{alert} has no {name}");
            text
        };
        assert!(!annotation("summary").ends_with('.'), "the summary of {alert} is a title");
        assert!(annotation("description").ends_with('.'), "the description of {alert} is made of sentences");
        assert_eq!(annotation("runbook_url"), format!("{RUNBOOKS}{alert}.md"));
        let dashboard = annotation("dashboard").strip_prefix("/d/orderly-").unwrap_or_default();
        let file = root().join(format!("grafana/dashboards/{dashboard}.json"));
        assert!(file.exists(), "{alert} leads to {}", annotation("dashboard"));
    }
}

#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() {
    let alerts: BTreeSet<String> = alerts().into_iter().map(|rule| rule.alert).collect();
    let pages = runbooks();
    let names: BTreeSet<String> = pages.keys().filter(|name| *name != "README").cloned().collect();
    assert_eq!(alerts, names);
    let index = &pages["README"];
    for name in names {
        let page = &pages[&name];
        assert!(index.contains(&format!("[{name}]({name}.md)")), "{name} is not in the index");
        assert!(page.starts_with(&format!("# {name}\n")), "{name} has another title");
        for part in ["## Meaning", "## Why it fires", "## Look first", "## Likely causes", "## Over when"] {
            assert!(page.contains(part), "{name} does not say: {part}");
        }
        for link in page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            assert!(pages.contains_key(link.trim_end_matches(".md")), "{name} leads to {link}");
        }
    }
}

#[test]
fn every_metric_of_the_rules_exists() {
    let exposed = exposed();
    let rules = rules();
    let recorded: BTreeSet<&str> = rules.iter().map(|rule| &*rule.record).collect();
    for rule in &rules {
        for metric in selected(&rule.expr) {
            // Prometheus' own, and that of PostgreSQL's exporter.
            let foreign = ["up", "pg_up"].contains(&&*metric);
            let known = foreign || exposed.contains(&metric) || recorded.contains(&*metric);
            assert!(known, "{}{} asks for {metric}", rule.alert, rule.record);
        }
    }
}

#[test]
fn the_commands_of_the_runbooks_exist() {
    let exposed = exposed();
    let is_exposed = |begin: &String| exposed.iter().any(|metric| metric.starts_with(begin.as_str()));
    let mut parsed = 0;
    for (page, text) in runbooks() {
        for line in commands(&text) {
            let words = shell_words(&line);
            if let Some(command) = words.first().and_then(|program| program_of(program)) {
                let outcome = command.try_get_matches_from(&words);
                assert!(
                    outcome.is_ok(),
                    "{page}: {line}\n{}",
                    outcome.err().map(|err| err.to_string()).unwrap_or_default()
                );
                parsed += 1;
            } else if line.contains("/metrics") {
                let patterns = words.split(|word| word == "|").skip(1).filter(|filter| filter[0] == "grep");
                let names = patterns.filter_map(<[String]>::last).flat_map(|pattern| alternatives(pattern));
                for begin in names.filter(|name| name.contains('_')) {
                    assert!(is_exposed(&begin), "{page} looks for {begin}");
                }
            }
        }
    }
    assert!(parsed > 30, "only {parsed} commands were found");
}

/// Who copies a whole block must not drop an event or a letter with it.
#[test]
fn what_drops_something_stands_alone() {
    let mut dropping = 0;
    for (page, text) in runbooks() {
        for block in blocks(&text) {
            let drops = |line: &&String| {
                let words: Vec<&str> = line.split_whitespace().collect();
                line.contains("accept_offsets")
                    || line.contains("RESOLUTION_CLOSE")
                    || words.starts_with(&["orderly", "dlq", "discard"])
                    || (words.starts_with(&["outbox-relay", "release"]) && !words.contains(&"--retry"))
            };
            let found = commands_of(block);
            let dropped = found.iter().filter(drops).count();
            assert!(dropped == 0 || found.len() == 1, "{page}: others stand beside what drops:\n{block}");
            assert!(dropped == 0 || page != "OutboxKeyOvertaken", "{page} drops what is held:\n{block}");
            dropping += dropped;
        }
    }
    assert!(dropping >= 4, "only {dropping} were found");
}

/// A gauge of 0 is written `0.0`.
#[test]
fn what_is_not_0_is_found_however_0_is_written() {
    let pages = runbooks();
    for (page, text) in &pages {
        assert!(!text.contains("' 0$'"), "{page} finds 0.0, too");
    }
    assert!(pages.values().any(|text| text.contains(r"grep -vE ' 0(\.0)?$'")));
}

/// In backticks a command stands without what it needs: its subcommand and flags exist.
#[test]
fn the_commands_that_are_only_named_exist() {
    let descriptions =
        alerts().into_iter().map(|mut rule| (rule.alert, rule.annotations.remove("description")));
    let texts = descriptions.map(|(alert, text)| (alert, text.unwrap_or_default()));
    for (page, text) in texts.chain(runbooks()) {
        let prose: String = text.split("```").step_by(2).collect();
        for code in prose.split('`').skip(1).step_by(2) {
            let words = shell_words(code);
            let Some(mut command) = words.first().and_then(|program| program_of(program)) else { continue };
            command.build();
            let mut at = &command;
            for word in &words[1..] {
                if let Some(flag) = word.strip_prefix("--") {
                    let known = at.get_arguments().any(|arg| arg.get_long() == Some(flag));
                    assert!(known, "{page}: `{code}`: no flag {word}");
                } else {
                    at = at
                        .find_subcommand(word)
                        .unwrap_or_else(|| panic!("{page}: `{code}`: no subcommand {word}"));
                }
            }
        }
    }
}

/// Runs promtool on files, and says what it found.
fn promtool(arguments: &[&str], files: &[PathBuf]) {
    assert!(!files.is_empty(), "nothing to {}", arguments.join(" "));
    let ran = match Command::new("promtool").args(arguments).args(files).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            panic!("promtool is not installed: `make test` installs it (Debian's package prometheus)")
        }
        ran => ran.expect("promtool runs"),
    };
    let said = [ran.stdout, ran.stderr].concat();
    assert!(ran.status.success(), "promtool {}:\n{}", arguments.join(" "), String::from_utf8_lossy(&said));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let listed = fs::read_dir(root().join(folder)).expect(folder);
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.expect(folder).path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
}

fn read_all<T: DeserializeOwned>(folder: &str) -> Vec<T> {
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a file that was listed");
        serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    files(folder, "yml").into_iter().map(read).collect()
}

fn rules() -> Vec<Rule> {
    let files: Vec<RuleFile> = read_all("grafana/rules");
    files.into_iter().flat_map(|file| file.groups).flat_map(|group| group.rules).collect()
}

fn alerts() -> Vec<Rule> {
    rules().into_iter().filter(|rule| !rule.alert.is_empty()).collect()
}

/// Every page by its name.
fn runbooks() -> BTreeMap<String, String> {
    let name =
        |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let read = |path: PathBuf| (name(&path), fs::read_to_string(&path).expect("a page that was listed"));
    files("docs/runbooks", "md").into_iter().map(read).collect()
}

/// The names under which the metrics of the catalogue are scraped.
fn exposed() -> BTreeSet<String> {
    let metrics = telemetry::catalogue::ALL.iter().flat_map(|section| section.metrics);
    let names = metrics.flat_map(|metric| match metric.kind {
        Kind::Histogram(_) => {
            ["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", metric.name)).to_vec()
        }
        _ => vec![metric.name.to_owned()],
    });
    names.collect()
}

/// The metrics that an expression selects.
fn selected(expr: &str) -> Vec<String> {
    struct Names(Vec<String>);
    impl ExprVisitor for Names {
        type Error = Infallible;
        fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Infallible> {
            match expr {
                Expr::VectorSelector(selector) => self.0.extend(selector.name.clone()),
                Expr::MatrixSelector(matrix) => self.0.extend(matrix.vs.name.clone()),
                _ => {}
            }
            Ok(true)
        }
    }
    let mut names = Names(Vec::new());
    let parsed = promql_parser::parser::parse(expr).unwrap_or_else(|error| panic!("{expr}: {error}"));
    let Ok(_) = walk_expr(&mut names, &parsed);
    assert!(!names.0.is_empty(), "nothing is selected by {expr}");
    names.0
}

fn program_of(name: &str) -> Option<clap::Command> {
    match name {
        "orderly" => Some(cli::Cli::command()),
        "outbox-relay" => Some(<outbox_relay::config::Cli as clap::CommandFactory>::command()),
        _ => None,
    }
}

/// The commands of a page's blocks.
fn commands(page: &str) -> Vec<String> {
    blocks(page).flat_map(commands_of).collect()
}

fn blocks(page: &str) -> impl Iterator<Item = &str> {
    page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next())
}

/// The commands of a block; one may go over several lines. A block may be part of a list, and be indented by that.
fn commands_of(block: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in block.lines().map(str::trim_start).filter(|line| !line.is_empty()) {
        match found.last_mut().filter(|_| goes_on) {
            Some(command) => *command = format!("{} {line}", command.trim_end_matches('\\')),
            None => found.push(line.to_owned()),
        }
        let command = found.last().map(String::as_str).unwrap_or_default();
        goes_on = command.ends_with('\\') || command.matches('"').count() % 2 == 1;
    }
    assert!(!goes_on, "a command does not end:\n{block}");
    found
}

/// Words as the shell makes them, as far as runbooks need it: quotes, and variables, each with one value.
fn shell_words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut chars = command.chars().peekable();
    while let Some(next) = chars.next() {
        match (next, quote) {
            ('\'' | '"', None) => quote = Some(next),
            (end, Some(begin)) if end == begin => quote = None,
            (' ', None) => words.push(std::mem::take(&mut word)),
            ('$', None | Some('"')) => {
                while chars.next_if(|next| next.is_ascii_uppercase() || *next == '_').is_some() {}
                word.push_str(VALUE);
            }
            _ => word.push(next),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// Every text that a pattern of `a`, `a|b` and `a(b|c)` stands for.
fn alternatives(pattern: &str) -> Vec<String> {
    let mut depth = 0;
    let at_top = |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == '|' && depth == 0
    };
    let of_branch = |branch: &str| match branch.split_once('(').zip(branch.rsplit_once(')')) {
        Some(((before, _), (_, after))) => {
            let inner = &branch[before.len() + 1..branch.len() - after.len() - 1];
            alternatives(inner).iter().map(|part| format!("{before}{part}{after}")).collect()
        }
        None => vec![branch.to_owned()],
    };
    pattern.split(at_top).flat_map(of_branch).collect()
}

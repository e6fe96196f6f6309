//! The rules of Grafana's dashboard-linter 0.2 (<https://github.com/grafana/dashboard-linter>) under its names, each at
//! least as strict as there and without exclusions, and rules of our own.

pub mod model;
mod own;
mod panel;
mod target;
mod variable;

use std::fmt;

use model::{Dashboard, Panel};
pub use own::is_known_metric;

/// What breaks a rule.
#[derive(Debug)]
pub struct Offence {
    /// The rule's name.
    pub rule: &'static str,
    /// File, and panel where it is one's.
    pub place: String,
    /// What is wrong.
    pub wrong: String,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.rule, self.place, self.wrong)
    }
}

/// Collects offences.
#[derive(Default)]
struct Offences(Vec<Offence>);

impl Offences {
    fn of(&mut self, rule: &'static str, place: impl Into<String>, holds: bool, wrong: impl Into<String>) {
        if !holds {
            self.0.push(Offence { rule, place: place.into(), wrong: wrong.into() });
        }
    }
}

/// All that is wrong with these dashboards.
pub fn lint(dashboards: &[Dashboard]) -> Vec<Offence> {
    dashboards.iter().flat_map(|dashboard| lint_one(dashboard, dashboards)).collect()
}

/// All that is wrong with one of these dashboards.
pub fn lint_one(dashboard: &Dashboard, dashboards: &[Dashboard]) -> Vec<Offence> {
    let mut offences = Offences::default();
    variable::check(dashboard, &mut offences);
    panel::check(dashboard, &mut offences);
    target::check(dashboard, &mut offences);
    own::check(dashboard, dashboards, &mut offences);
    let uneditable = dashboard.editable == Some(false);
    offences.of("uneditable-dashboard", &dashboard.file, uneditable, "is editable");
    offences.0
}

fn place(dashboard: &Dashboard, panel: &Panel) -> String {
    format!("{}: {} ({})", dashboard.file, panel.title, panel.id)
}

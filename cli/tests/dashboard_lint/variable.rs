//! Rules about a dashboard's variables.

use promql_parser::parser;

use super::{Offences, model::Dashboard, target::parsable};
use crate::queries::asked_of_label;

pub fn check(dashboard: &Dashboard, offences: &mut Offences) {
    let (place, variables) = (&dashboard.file, &dashboard.templating.list);

    let sources: Vec<_> = variables.iter().filter(|variable| variable.kind == "datasource").collect();
    let rule = "template-datasource-rule";
    offences.of(rule, place, sources.len() == 1, format!("has {} data source variables", sources.len()));
    for source in sources {
        let known = matches!(
            (&*source.name, &*source.label),
            ("datasource", "Data source") | ("prometheus_datasource", "Prometheus data source")
        );
        offences.of(rule, place, source.query == "prometheus", format!("is of {}", source.query));
        offences.of(rule, place, known, format!("is named {} and labelled {}", source.name, source.label));
    }

    for (rule, name, label) in
        [("template-job-rule", "job", "Job"), ("template-instance-rule", "instance", "Instance")]
    {
        let Some(variable) = variables.iter().find(|variable| variable.name == name) else {
            offences.of(rule, place, false, format!("has no variable {name}"));
            continue;
        };
        for (holds, wrong) in [
            (variable.kind == "query", "is no query"),
            (is_templated(&variable.datasource.uid), "does not use $datasource"),
            (variable.label == label, "has another label"),
            (variable.multi, "is no multi select"),
            (variable.include_all, "does not offer all"),
            (variable.all_value == ".+", "has an allValue other than .+"),
        ] {
            offences.of(rule, place, holds, format!("{name} {wrong}"));
        }
    }

    for variable in variables.iter().filter(|variable| variable.kind == "query") {
        let parses =
            asked_of_label(&variable.query).is_some_and(|expr| parser::parse(&parsable(expr)).is_ok());
        let wrong = format!("{} asks {}", variable.name, variable.query);
        offences.of("template-label-promql-rule", place, parses, wrong);
        let rule = "template-on-time-change-reload-rule";
        offences.of(rule, place, variable.refresh == 2, format!("{} is not refreshed", variable.name));
    }
}

/// Whether a data source is what the user chose.
pub fn is_templated(uid: &str) -> bool {
    matches!(uid, "$datasource" | "${datasource}")
}

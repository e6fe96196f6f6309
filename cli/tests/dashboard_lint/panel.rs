//! Rules about what a panel shows.

use super::{
    Offences,
    model::{Dashboard, Panel},
    place,
    variable::is_templated,
};

/// Ids of Grafana's units, as far as there is something here to be measured in them
/// (`packages/grafana-data/src/valueFormats/categories.ts`).
const UNITS: [&str; 18] = [
    "none",
    "short",
    "locale",
    "percent",
    "percentunit",
    "bytes",
    "decbytes",
    "Bps",
    "binBps",
    "s",
    "ms",
    "dtdurations",
    "dateTimeFromNow",
    "cps",
    "ops",
    "reqps",
    "wps",
    "bool",
];

pub fn check(dashboard: &Dashboard, offences: &mut Offences) {
    for panel in dashboard.contents() {
        let place = &place(dashboard, panel);
        let described = !panel.title.is_empty() && !panel.description.is_empty();
        offences.of("panel-title-description-rule", place, described, "has no title or description");
        let uid = &panel.datasource.uid;
        offences.of("panel-datasource-rule", place, is_templated(uid), format!("uses data source {uid:?}"));
        // Grafana's own list of alerts asks by itself.
        if panel.kind != "alertlist" {
            offences.of("panel-no-targets-rule", place, !panel.targets.is_empty(), "has no targets");
            for unit in units(panel) {
                let known = UNITS.contains(&&*unit);
                offences.of("panel-units-rule", place, known, format!("has the unit {unit:?}"));
            }
        }
        for target in &panel.targets {
            let uid = &target.datasource.uid;
            let wrong = format!("target {} uses data source {uid:?}", target.ref_id);
            offences.of("panel-datasource-rule", place, is_templated(uid), wrong);
        }
    }
}

/// The unit of a panel, and those of its overrides.
fn units(panel: &Panel) -> Vec<String> {
    let config = &panel.field_config;
    let properties = config.overrides.iter().flat_map(|one| &one.properties);
    let overridden = properties.filter(|property| property.id == "unit");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    std::iter::once(config.defaults.unit.clone())
        .chain(overridden.map(|property| text(&property.value)))
        .collect()
}

//! What the rules read of Grafana's classic dashboard model.

use serde::Deserialize;
use serde_json::Value;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dashboard {
    #[serde(skip)]
    pub file: String,
    pub uid: String,
    pub title: String,
    pub schema_version: u32,
    pub tags: Vec<String>,
    /// Grafana takes a missing one for true.
    pub editable: Option<bool>,
    pub links: Vec<DashboardLink>,
    pub templating: List<Variable>,
    pub annotations: List<Annotation>,
    pub panels: Vec<Panel>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct List<T> {
    pub list: Vec<T>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct DashboardLink {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub tags: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Annotation {
    #[serde(default)]
    pub expr: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Variable {
    pub name: String,
    pub label: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub query: String,
    pub datasource: DataSource,
    pub multi: bool,
    pub include_all: bool,
    pub all_value: String,
    pub refresh: u8,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DataSource {
    pub uid: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Panel {
    pub id: u32,
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub description: String,
    pub datasource: DataSource,
    pub grid_pos: GridPos,
    pub field_config: FieldConfig,
    pub links: Vec<PanelLink>,
    pub targets: Vec<Target>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct GridPos {
    pub x: u32,
    pub y: u32,
    pub w: u32,
    pub h: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct FieldConfig {
    pub defaults: Defaults,
    pub overrides: Vec<Override>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Defaults {
    pub unit: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Override {
    pub properties: Vec<Property>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Property {
    pub id: String,
    pub value: Value,
}

#[derive(Clone, Debug, Deserialize)]
pub struct PanelLink {
    pub url: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Target {
    pub ref_id: String,
    pub expr: String,
    pub legend_format: String,
    pub datasource: DataSource,
    pub exemplar: bool,
    pub range: bool,
}

impl Dashboard {
    /// A dashboard's JSON.
    pub fn read(file: &str, text: &str) -> Self {
        let mut read: Self = serde_json::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        read.file = file.to_owned();
        read
    }

    /// All but the rows.
    pub fn contents(&self) -> impl Iterator<Item = &Panel> {
        self.panels.iter().filter(|panel| panel.kind != "row")
    }
}

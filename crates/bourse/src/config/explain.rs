//! Every value with its origin, unit and meaning: what `bourse config explain` prints.

use super::fields::{FIELDS, TABLE_FIELDS};
use super::layers::Loaded;
use bourse_gateway::adapter::adapter_of_kind;
use figment::value::Value;

/// One line of the explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Dotted path; tables that may stand many times carry their index, as in `provider[0].name`.
    pub path: String,
    /// The value as it would be written.
    pub value: String,
    /// The layer it came from.
    pub origin: String,
    /// What one of it is.
    pub unit: &'static str,
    /// What it decides.
    pub doc: &'static str,
    /// The variable that sets it, for fields that have one.
    pub env: Option<&'static str>,
}

impl Loaded {
    /// Explains every field, in the order of the file.
    pub fn explain(&self) -> Vec<Explained> {
        let mut lines: Vec<Explained> = FIELDS
            .iter()
            .map(|field| {
                let found = self.layers.find_value(field.path).ok();
                Explained {
                    path: field.path.to_owned(),
                    value: found.as_ref().map_or_else(|| "(not set)".to_owned(), plain),
                    origin: self.origin(found.as_ref()),
                    unit: field.unit,
                    doc: field.doc,
                    env: Some(field.env),
                }
            })
            .collect();
        for table in TABLES {
            if let Ok(Value::Array(_, items)) = self.layers.find_value(table) {
                for (index, item) in items.iter().enumerate() {
                    self.explain_table(&format!("{table}[{index}]"), table, item, &mut lines);
                    if table == "provider" {
                        usual(&format!("{table}[{index}]"), item, &mut lines);
                    }
                }
            }
        }
        lines
    }

    /// Walks one table; `below` is its path without positions, by which its meaning is looked up.
    fn explain_table(&self, at: &str, below: &str, table: &Value, lines: &mut Vec<Explained>) {
        let Some(entries) = table.as_dict() else { return };
        for (key, value) in entries {
            let below = format!("{below}.{key}");
            // What a preset holds is a request's affair, not ours.
            if below == "preset.request" {
                let origin = self.origin(Some(value));
                lines.push(table_line(format!("{at}.{key}"), &below, plain(value), origin));
                continue;
            }
            if let Value::Array(_, items) = value
                && items.iter().all(|item| item.as_dict().is_some())
            {
                for (index, item) in items.iter().enumerate() {
                    self.explain_table(&format!("{at}.{key}[{index}]"), &below, item, lines);
                }
                continue;
            }
            let origin = self.origin(Some(value));
            lines.push(table_line(format!("{at}.{key}"), &below, plain(value), origin));
        }
    }

    fn origin(&self, value: Option<&Value>) -> String {
        let metadata = value.and_then(|value| self.layers.get_metadata(value.tag()));
        match metadata {
            // Serialized defaults carry the name of the struct; a reader wants the plain word.
            Some(metadata) if !metadata.name.contains("Config") => metadata.name.clone().into_owned(),
            _ => "default".to_owned(),
        }
    }
}

/// Tables that may stand many times, in the order in which they are explained.
const TABLES: [&str; 5] = ["provider", "byok", "alias", "preset", "tokenizer"];

fn table_line(path: String, below: &str, value: String, origin: String) -> Explained {
    let known = TABLE_FIELDS.iter().find(|(path, _, _)| *path == below);
    let (unit, doc) = known.map_or(("", ""), |(_, unit, doc)| (*unit, *doc));
    Explained { path, value, origin, unit, doc, env: None }
}

/// What a provider's kind usually does, where the provider and its models say nothing.
fn usual(at: &str, provider: &Value, lines: &mut Vec<Explained>) {
    let said = |table: &Value, name: &str| table.find_ref(name).is_some();
    let Some(adapter) = provider.find_ref("kind").and_then(Value::as_str).and_then(adapter_of_kind) else {
        return;
    };
    let kind = adapter.kind();
    let mut tell = |path: String, below: &str, value: String| {
        lines.push(table_line(path, below, value, format!("kind {}", kind.word)));
    };
    if let Some(base_url) = kind.base_url.filter(|_| !said(provider, "base_url")) {
        tell(format!("{at}.base_url"), "provider.base_url", format!("\"{base_url}\""));
    }
    if !said(provider, "gathers") {
        tell(format!("{at}.gathers"), "provider.gathers", kind.gathers.to_string());
    }
    let names = |names: Vec<&'static str>| serde_json::Value::from(names).to_string();
    let models = provider.find_ref("model").and_then(Value::as_array).unwrap_or_default();
    for (index, model) in models.iter().enumerate() {
        let at = format!("{at}.model[{index}]");
        if !said(model, "operations") {
            let value = names(kind.operations.names().collect());
            tell(format!("{at}.operations"), "provider.model.operations", value);
        }
        if !said(model, "supports") && !said(provider, "supports") {
            let value = names(kind.supports.names().collect());
            tell(format!("{at}.supports"), "provider.model.supports", value);
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("\"{text}\""),
        Value::Empty(..) => "(not set)".to_owned(),
        other => serde_json::to_string(other).unwrap_or_else(|_| "(unprintable)".to_owned()),
    }
}

//! Every value with its origin, unit and meaning: what `bourse config explain` prints.

use super::fields::{FIELDS, PROVIDER_FIELDS};
use super::layers::Loaded;
use figment::value::Value;

/// One line of the explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Dotted path; providers carry their index, as in `provider[0].name`.
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
        if let Ok(Value::Array(_, providers)) = self.layers.find_value("provider") {
            for (index, provider) in providers.iter().enumerate() {
                self.explain_table(&format!("provider[{index}]"), "", provider, &mut lines);
            }
        }
        lines
    }

    /// Walks one `[[provider]]`; `below` is the path inside it, by which its meaning is looked up.
    fn explain_table(&self, at: &str, below: &str, table: &Value, lines: &mut Vec<Explained>) {
        let Some(entries) = table.as_dict() else { return };
        for (key, value) in entries {
            let below = if below.is_empty() { key.clone() } else { format!("{below}.{key}") };
            if let Value::Array(_, items) = value {
                for (index, item) in items.iter().enumerate() {
                    self.explain_table(&format!("{at}.{key}[{index}]"), &below, item, lines);
                }
                continue;
            }
            let (unit, doc) = PROVIDER_FIELDS
                .iter()
                .find(|(path, _, _)| *path == below)
                .map_or(("", ""), |(_, unit, doc)| (*unit, *doc));
            lines.push(Explained {
                path: format!("{at}.{key}"),
                value: plain(value),
                origin: self.origin(Some(value)),
                unit,
                doc,
                env: None,
            });
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

fn plain(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("\"{text}\""),
        Value::Empty(..) => "(not set)".to_owned(),
        other => serde_json::to_string(other).unwrap_or_else(|_| "(unprintable)".to_owned()),
    }
}

//! Values that fit a JSON schema, and values that do not: what a model makes of a tool or a wished form.
//!
//! Required properties only, the first option of every choice, `$ref` within the document. Patterns and
//! formats are not imitated. Depth and size are bounded, so a schema that contains itself ends in null.

use serde_json::{Map, Value, json};

/// How deep a schema is followed.
const DEPTH_MAX: usize = 16;
/// Values that a sample is made of; what would come later is null.
const VALUES_MAX: usize = 4_096;
/// Items that a list is filled with when its least length asks for more.
const ITEMS_MAX: u64 = 32;

/// A value that fits.
pub(super) fn sample(schema: &Value) -> Value {
    Fitter { root: schema, values_left: VALUES_MAX }.fit(schema, DEPTH_MAX)
}

struct Fitter<'a> {
    root: &'a Value,
    values_left: usize,
}

impl Fitter<'_> {
    fn fit(&mut self, schema: &Value, depth: usize) -> Value {
        let (Some(depth), Some(left)) = (depth.checked_sub(1), self.values_left.checked_sub(1)) else {
            return Value::Null;
        };
        self.values_left = left;
        if let Some(target) = schema["$ref"].as_str() {
            let found = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return found.map_or(Value::Null, |schema| self.fit(schema, depth));
        }
        if let Some(only) = schema.get("const") {
            return only.clone();
        }
        if let Some(first) = schema["enum"].as_array().and_then(|options| options.first()) {
            return first.clone();
        }
        for choice in ["anyOf", "oneOf", "allOf"] {
            if let Some(first) = schema[choice].as_array().and_then(|options| options.first()) {
                return self.fit(first, depth);
            }
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.first().and_then(Value::as_str),
            kind => kind.as_str(),
        };
        match kind {
            Some("string") => {
                let least = schema["minLength"].as_u64().unwrap_or(0).min(1_024) as usize;
                json!(format!("Paris{}", "s".repeat(least.saturating_sub("Paris".len()))))
            }
            Some("integer") => json!(in_range(schema, 7)),
            Some("number") => {
                let low = schema["minimum"].as_f64().unwrap_or(1.5);
                json!(schema["maximum"].as_f64().map_or(low.max(1.5), |high| low.max(1.5).min(high)))
            }
            Some("boolean") => json!(true),
            Some("array") => {
                let count = schema["minItems"].as_u64().unwrap_or(1).clamp(1, ITEMS_MAX);
                Value::Array((0..count).map(|_| self.fit(&schema["items"], depth)).collect())
            }
            Some("null") => Value::Null,
            _ => {
                let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
                let entries = required.iter().filter_map(Value::as_str);
                let of = |name: &str| (name.to_owned(), self.fit(&schema["properties"][name], depth));
                entries.map(of).collect::<Map<_, _>>().into()
            }
        }
    }
}

fn in_range(schema: &Value, wish: i64) -> i64 {
    let low = schema["minimum"].as_i64().unwrap_or(i64::MIN);
    let high = schema["maximum"].as_i64().unwrap_or(i64::MAX);
    if wish < low { low } else { wish.min(high) }
}

/// An object that does not fit: the first property that the schema knows has the wrong type, or an object
/// stands for the missing name of one.
pub(super) fn misfit(schema: &Value) -> Value {
    let mut value = sample(schema);
    let known = schema["properties"].as_object();
    let name = known.and_then(|properties| properties.keys().next()).map_or("unexpected", String::as_str);
    let wrong = match schema["properties"][name]["type"].as_str() {
        Some("object") => json!(12),
        _ => json!({"not": "what the schema says"}),
    };
    match value.as_object_mut() {
        Some(map) => {
            map.insert(name.to_owned(), wrong);
            value
        }
        None => json!({ name: wrong }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: &Value, want: &Value) {
        assert_eq!(&sample(schema), want, "{schema}");
    }

    #[test]
    fn samples_fit() {
        check(&json!({"type": "string", "minLength": 7}), &json!("Parisss"));
        check(&json!({"type": ["integer", "null"], "minimum": 9}), &json!(9));
        check(&json!({"type": "integer", "maximum": 3}), &json!(3));
        check(&json!({"type": "array", "items": {"const": 1}, "minItems": 2}), &json!([1, 1]));
        check(&json!({"anyOf": [{"type": "boolean"}, {"type": "null"}]}), &json!(true));
        let tree = json!({"$defs": {"n": {"type": "object", "properties": {"v": {"enum": ["a"]}}, "required": ["v"]}},
            "$ref": "#/$defs/n"});
        check(&tree, &json!({"v": "a"}));
        check(&Value::Null, &json!({}));
    }

    #[test]
    fn a_schema_that_contains_itself_ends() {
        let endless = json!({"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]});
        assert!(sample(&endless).to_string().len() < 1_000);
        let wide = json!({"type": "array", "minItems": 32, "items": {"$ref": "#"}});
        assert!(sample(&wide).to_string().matches("null").count() < VALUES_MAX * 32);
    }

    #[test]
    fn misfits_do_not_fit() {
        let schema =
            json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
        assert!(misfit(&schema)["city"].is_object());
        assert!(misfit(&Value::Null)["unexpected"].is_object());
    }
}

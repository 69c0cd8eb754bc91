//! Which keywords of JSON Schema the vendor enforces.
//!
//! Source: the reference of `responseJsonSchema`, as of 2026-10.

use crate::dialect::neutral::RawJson;
use serde_json::Value;

/// Keywords that hold an answer to something and are not enforced. All others are enforced, or only describe.
const UNENFORCED: [&str; 20] = [
    "allOf",
    "const",
    "contains",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "if",
    "maxLength",
    "maxProperties",
    "minLength",
    "minProperties",
    "multipleOf",
    "not",
    "pattern",
    "patternProperties",
    "propertyNames",
    "uniqueItems",
    "unevaluatedProperties",
];

/// Members that hold one schema or a list of them.
const SCHEMAS: [&str; 6] =
    ["additionalProperties", "anyOf", "items", "oneOf", "prefixItems", "unevaluatedItems"];
/// Members that hold schemas under names of the buyer's.
const NAMED_SCHEMAS: [&str; 3] = ["$defs", "definitions", "properties"];

/// Whether a schema uses keywords that the vendor does not enforce. Nesting is bounded by [`RawJson`].
pub(super) fn has_unenforced(schema: &RawJson) -> bool {
    serde_json::from_str(schema.as_str()).is_ok_and(|schema| is_unenforced(&schema))
}

fn is_unenforced(schema: &Value) -> bool {
    match schema {
        Value::Array(schemas) => schemas.iter().any(is_unenforced),
        Value::Object(members) => members.iter().any(|(name, value)| match name.as_str() {
            name if UNENFORCED.contains(&name) => true,
            name if SCHEMAS.contains(&name) => is_unenforced(value),
            name if NAMED_SCHEMAS.contains(&name) => {
                value.as_object().is_some_and(|named| named.values().any(is_unenforced))
            }
            _ => false,
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: &str, want: bool) {
        assert_eq!(has_unenforced(&RawJson::parse(schema).unwrap()), want, "{schema}");
    }

    #[test]
    fn keywords_are_found_wherever_schemas_are() {
        check(r#"{"type":"object","properties":{"a":{"type":"string","minLength":1}}}"#, true);
        check(r#"{"anyOf":[{"type":"null"},{"type":"array","items":{"not":{}}}]}"#, true);
        check(r##"{"$defs":{"a":{"multipleOf":5}},"$ref":"#/$defs/a"}"##, true);
        check(r#"{"additionalProperties":{"pattern":"a"}}"#, true);
    }

    #[test]
    fn names_and_examples_of_the_buyer_are_no_keywords() {
        check(r#"{"type":"object","properties":{"pattern":{"type":"string"},"not":{"enum":["if"]}}}"#, false);
        check(r#"{"default":{"minLength":1},"examples":[{"not":1}],"minimum":1,"maxItems":3}"#, false);
        check("true", false);
    }
}

//! Arguments of a call for grammars that have room only for an object.

use serde::Serialize;
use serde_json::value::RawValue;

/// What a model wrote as arguments: as an object where it is one, otherwise as text within one.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum ObjectArguments<'a> {
    Object(&'a RawValue),
    Broken { invalid_json: &'a str },
}

impl<'a> ObjectArguments<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let object = if text.trim_ascii().is_empty() { "{}" } else { text };
        match serde_json::from_str::<&RawValue>(object) {
            Ok(raw) if raw.get().starts_with('{') => Self::Object(raw),
            _ => Self::Broken { invalid_json: text },
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        matches!(self, Self::Broken { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_are_kept_as_they_are() {
        for (text, want) in [
            (r#" {"a": 1.50} "#, r#"{"a": 1.50}"#),
            (" ", "{}"),
            ("[1]", r#"{"invalid_json":"[1]"}"#),
            (r#"{"a":"#, r#"{"invalid_json":"{\"a\":"}"#),
        ] {
            let arguments = ObjectArguments::of(text);
            assert_eq!(serde_json::to_string(&arguments).unwrap(), want);
            assert_eq!(arguments.is_broken(), want.contains("invalid_json"));
        }
    }
}

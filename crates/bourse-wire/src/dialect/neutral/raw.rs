//! JSON that stays text.

use crate::json::{JsonError, Walk};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// Text that is one value of JSON. Kept as written: the order of members in a schema can matter to a seller's
/// cache and to the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RawJson(String);

/// The text is not one value of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct RawJsonError(#[from] JsonError);

impl RawJson {
    /// Takes text that is one value of JSON.
    pub fn parse(text: impl Into<String>) -> Result<Self, RawJsonError> {
        let text = text.into();
        let mut walk = Walk::new(&text);
        walk.value()?;
        walk.finish()?;
        Ok(Self(text))
    }

    /// A value that this process made.
    pub fn of(value: &serde_json::Value) -> Self {
        Self(value.to_string())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the value is an object.
    pub fn is_object(&self) -> bool {
        self.0.trim_ascii_start().starts_with('{')
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse(String::from(Box::<str>::from(raw))).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_kept_as_written() {
        let text = r#"{ "b":1, "a" : [2.50, "x"] }"#;
        let raw: RawJson = serde_json::from_str(text).unwrap();
        assert_eq!(raw.as_str(), text);
        assert!(raw.is_object());
        assert_eq!(serde_json::to_string(&raw).unwrap(), text);
        assert_eq!(RawJson::parse(text), Ok(raw));
        assert!(RawJson::parse("{").is_err());
        assert!(RawJson::parse("1 2").is_err());
    }
}

//! One field of a request's JSON, with its path, so that every refusal names what is wrong.

use super::CallError;
use serde_json::{Map, Value};

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Flaw {
    /// It is required.
    Missing,
    /// The vendor's grammar has no such field.
    Unknown,
    /// It is there, and wrong: what it should be.
    Wrong(String),
}

/// A value and the path to it, with dots: `messages.0.content`.
#[derive(Debug, Clone)]
pub(in super::super) struct Field<'a> {
    pub(in super::super) value: &'a Value,
    path: String,
}

static NOTHING: Value = Value::Null;

impl<'a> Field<'a> {
    /// The whole body.
    pub(in super::super) fn root(value: &'a Value) -> Self {
        Self { value, path: String::new() }
    }

    fn below(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A member; null when it is absent.
    pub(in super::super) fn get(&self, name: &str) -> Field<'a> {
        Field { value: self.value.get(name).unwrap_or(&NOTHING), path: self.below(name) }
    }

    /// A member under either of two names, as protobuf JSON allows.
    pub(in super::super) fn either(&self, name: &str, other: &str) -> Field<'a> {
        let first = self.get(name);
        if first.is_given() { first } else { self.get(other) }
    }

    /// Whether it is there.
    pub(in super::super) fn is_given(&self) -> bool {
        !self.value.is_null()
    }

    /// Itself, if it is there.
    pub(in super::super) fn given(self) -> Option<Self> {
        self.is_given().then_some(self)
    }

    /// An error at this field.
    pub(in super::super) fn wrong(&self, should: impl Into<String>) -> CallError {
        CallError::Field { path: self.path.clone(), flaw: Flaw::Wrong(should.into()) }
    }

    fn absent(&self) -> CallError {
        CallError::Field { path: self.path.clone(), flaw: Flaw::Missing }
    }

    /// The path.
    pub(in super::super) fn path(&self) -> &str {
        &self.path
    }

    /// The string here, which must be one.
    pub(in super::super) fn str(&self) -> Result<&'a str, CallError> {
        match self.value {
            Value::String(text) => Ok(text),
            Value::Null => Err(self.absent()),
            _ => Err(self.wrong("a string")),
        }
    }

    /// The string here, if anything is here.
    pub(in super::super) fn optional_str(&self) -> Result<Option<&'a str>, CallError> {
        if self.is_given() { self.str().map(Some) } else { Ok(None) }
    }

    /// A string among these.
    pub(in super::super) fn one_of(&self, options: &[&str]) -> Result<&'a str, CallError> {
        let text = self.str()?;
        if options.contains(&text) {
            Ok(text)
        } else {
            Err(self.wrong(format!("one of '{}', not '{text}'", options.join("', '"))))
        }
    }

    /// The items here, which must be a list.
    pub(in super::super) fn items(&self) -> Result<Vec<Field<'a>>, CallError> {
        match self.value {
            Value::Array(list) => {
                let field = |(at, value)| Field { value, path: self.below(&format!("{at}")) };
                Ok(list.iter().enumerate().map(field).collect())
            }
            Value::Null => Err(self.absent()),
            _ => Err(self.wrong("a list")),
        }
    }

    /// The items here, none when nothing is here.
    pub(in super::super) fn optional_items(&self) -> Result<Vec<Field<'a>>, CallError> {
        if self.is_given() { self.items() } else { Ok(Vec::new()) }
    }

    /// The object here, which must be one.
    pub(in super::super) fn object(&self) -> Result<&'a Map<String, Value>, CallError> {
        match self.value {
            Value::Object(map) => Ok(map),
            Value::Null => Err(self.absent()),
            _ => Err(self.wrong("an object")),
        }
    }

    /// Refuses members that are not in the list.
    pub(in super::super) fn only(&self, known: &[&str]) -> Result<(), CallError> {
        match self.object()?.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(CallError::Field { path: self.below(name), flaw: Flaw::Unknown }),
            None => Ok(()),
        }
    }

    /// A whole number of at least `least`, if anything is here.
    pub(in super::super) fn optional_count(&self, least: u64) -> Result<Option<u64>, CallError> {
        if !self.is_given() {
            return Ok(None);
        }
        match self.value.as_u64() {
            Some(count) if count >= least => Ok(Some(count)),
            _ => Err(self.wrong(format!("a whole number of at least {least}"))),
        }
    }

    /// A whole number of at least `least`.
    pub(in super::super) fn count(&self, least: u64) -> Result<u64, CallError> {
        self.optional_count(least)?.ok_or_else(|| self.absent())
    }

    /// A number in a range, if anything is here.
    pub(in super::super) fn optional_number(&self, least: f64, most: f64) -> Result<(), CallError> {
        match self.value.as_f64() {
            Some(number) if (least..=most).contains(&number) => Ok(()),
            None if !self.is_given() => Ok(()),
            _ => Err(self.wrong(format!("a number from {least} to {most}"))),
        }
    }

    /// True or false; false when nothing is here.
    pub(in super::super) fn flag(&self) -> Result<bool, CallError> {
        match self.value {
            Value::Bool(flag) => Ok(*flag),
            Value::Null => Ok(false),
            _ => Err(self.wrong("true or false")),
        }
    }

    /// A name as tools have them, of at most `most` characters.
    pub(in super::super) fn name(&self, most: usize) -> Result<&'a str, CallError> {
        let text = self.str()?;
        let fits = (1..=most).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if fits {
            Ok(text)
        } else {
            Err(self.wrong(format!("a string that matches pattern '^[a-zA-Z0-9_-]{{1,{most}}}$'")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_name_the_path() {
        let body = json!({"list": [{"name": "a b"}, 7], "x": 0});
        let root = Field::root(&body);
        let items = root.get("list").items().unwrap();
        let path = |error: CallError| match error {
            CallError::Field { path, flaw } => (path, flaw),
            other => panic!("{other:?}"),
        };
        assert_eq!(path(items[0].get("name").name(8).unwrap_err()).0, "list.0.name");
        assert_eq!(path(items[0].get("gone").str().unwrap_err()), ("list.0.gone".to_owned(), Flaw::Missing));
        assert_eq!(path(items[1].object().unwrap_err()).0, "list.1");
        assert_eq!(path(root.only(&["list"]).unwrap_err()), ("x".to_owned(), Flaw::Unknown));
        assert_eq!(root.get("x").optional_count(0), Ok(Some(0)));
        assert!(root.get("x").optional_count(1).is_err());
    }

    #[test]
    fn names_are_bounded() {
        let of = |length| json!("n".repeat(length));
        assert!(Field::root(&of(64)).name(64).is_ok());
        assert!(Field::root(&of(65)).name(64).is_err());
        assert!(Field::root(&of(0)).name(64).is_err());
    }
}

//! A tree of JSON that borrows its texts, for writers of bodies: what is absent is left out, and what the neutral form
//! keeps as text (schemas) stays as it was written.

use super::arguments::ObjectArguments;
use super::neutral::{RawJson, Tool};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// One value.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(super) enum Tree<'a> {
    /// Nothing: no member of an object.
    Absent,
    Bool(bool),
    Whole(i128),
    Number(f64),
    Text(Cow<'a, str>),
    Json(&'a RawJson),
    Raw(&'a RawValue),
    List(Vec<Tree<'a>>),
    Object(#[serde(serialize_with = "members")] Vec<(&'static str, Tree<'a>)>),
}

fn members<S: Serializer>(members: &[(&'static str, Tree<'_>)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for (key, value) in members.iter().filter(|(_, value)| !matches!(value, Tree::Absent)) {
        map.serialize_entry(key, value)?;
    }
    map.end()
}

impl<'a> Tree<'a> {
    /// A tool as OpenAI writes it and others have taken over. Servers want the members of its parameters all the same.
    pub(super) fn function(tool: &'a Tool) -> Self {
        let nothing = || Self::object([("type", "object".into()), ("properties", Self::object([]))]);
        let function = Self::object([
            ("name", (&tool.name).into()),
            ("description", tool.description.as_ref().into()),
            ("parameters", tool.parameters.as_ref().map_or_else(nothing, Tree::from)),
        ]);
        Self::object([("type", "function".into()), ("function", function)])
    }
}

impl Tree<'_> {
    /// An object of these members, in this order.
    pub(super) fn object<const N: usize>(members: [(&'static str, Self); N]) -> Self {
        Self::Object(members.into())
    }

    /// The same; absent where all members are.
    pub(super) fn unless_empty(self) -> Self {
        match self {
            Self::Object(members) if members.iter().all(|(_, value)| matches!(value, Self::Absent)) => {
                Self::Absent
            }
            tree => tree,
        }
    }

    /// A list; absent where it is empty.
    pub(super) fn list(items: impl IntoIterator<Item = impl Into<Self>>) -> Self {
        let items: Vec<Self> = items.into_iter().map(Into::into).collect();
        if items.is_empty() { Self::Absent } else { Self::List(items) }
    }
}

/// Conversions from what bodies hold.
macro_rules! from {
    ($($type:ty => $value:ident $tree:expr;)*) => {$(
        impl<'a> From<$type> for Tree<'a> {
            fn from($value: $type) -> Self {
                $tree
            }
        }
    )*};
}

from! {
    bool => value Self::Bool(value);
    u8 => value Self::Whole(value.into());
    u32 => value Self::Whole(value.into());
    u64 => value Self::Whole(value.into());
    i64 => value Self::Whole(value.into());
    f64 => value Self::Number(value);
    &'a str => value Self::Text(Cow::Borrowed(value));
    &'a String => value Self::Text(Cow::Borrowed(value));
    String => value Self::Text(Cow::Owned(value));
    &'a RawJson => value Self::Json(value);
    ObjectArguments<'a> => value match value {
        ObjectArguments::Object(raw) => Self::Raw(raw),
        ObjectArguments::Broken { invalid_json } => Self::object([("invalid_json", invalid_json.into())]),
    };
}

impl<'a, T: Into<Tree<'a>>> From<Option<T>> for Tree<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_left_out_and_raw_text_stays() {
        let raw = RawJson::parse(r#"{ "b": 1.50, "a": [] }"#).unwrap();
        let tree = Tree::object([
            ("z", "é\"".into()),
            ("none", None::<&str>.into()),
            ("empty", Tree::list([""; 0])),
            ("schema", (&raw).into()),
            ("list", Tree::list([Some(1_u32), None])),
            ("inner", Tree::object([("yes", true.into()), ("half", Some(0.5).into())])),
            ("nothing", Tree::object([])),
            ("gone", Tree::object([("none", Tree::Absent)]).unless_empty()),
            ("broken", ObjectArguments::of("[1]").into()),
            ("seed", i64::MIN.into()),
        ]);
        let want = r#"{"z":"é\"","schema":{ "b": 1.50, "a": [] },"list":[1,null],"inner":{"yes":true,"half":0.5},"nothing":{},"broken":{"invalid_json":"[1]"},"seed":-9223372036854775808}"#;
        assert_eq!(serde_json::to_string(&tree).unwrap(), want);
    }
}

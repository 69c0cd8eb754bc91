//! One item of the input, looked at: its type, and whether it has what that type needs.

use crate::dialect::fields::{self, unescaped, wrong};
use crate::error::ApiError;
use crate::json::Walk;

/// What one item of the input is, as far as a plan cares.
#[derive(Debug, Default)]
pub(super) struct Item {
    pub(super) kind: Kind,
    has_role: bool,
    has_content: bool,
    has_call_id: bool,
    pub(super) media_parts: u32,
}

/// Types of items. One without a type is a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    #[default]
    Message,
    Call,
    CallOutput,
    Thoughts,
    Reference,
    /// Only sellers of this grammar know it.
    Other,
}

impl Kind {
    fn parse(word: &str) -> Self {
        match word {
            "message" => Self::Message,
            "function_call" => Self::Call,
            "function_call_output" => Self::CallOutput,
            "reasoning" => Self::Thoughts,
            "item_reference" => Self::Reference,
            _ => Self::Other,
        }
    }
}

impl Item {
    pub(super) fn walk(walk: &mut Walk<'_>, index: usize) -> Result<Self, ApiError> {
        let named = |part: &str| format!("input[{index}]{part}");
        if walk.peek() != b'{' {
            return Err(wrong(&named(""), "an object such as {\"role\":\"user\",\"content\":\"hello\"}"));
        }
        let mut item = Self::default();
        walk.members::<ApiError>(|walk, key| {
            let name = unescaped(walk.text(key));
            match (name.as_ref(), walk.peek()) {
                ("type", b'"') => {
                    let value = walk.string()?;
                    item.kind = Kind::parse(&unescaped(walk.text(value)));
                    return Ok(());
                }
                ("type", _) => return Err(wrong(&named(".type"), "a string such as \"message\"")),
                ("role", b'"') => item.has_role = true,
                ("call_id", b'"') => item.has_call_id = true,
                ("content" | "output", b'[') => {
                    item.has_content = true;
                    let parts = walk_parts(walk, || named(&format!(".{name}")))?;
                    item.media_parts = item.media_parts.saturating_add(parts);
                    return Ok(());
                }
                ("content" | "output", b'"') => item.has_content = true,
                _ => {}
            }
            walk.value()?;
            Ok(())
        })?;
        Ok(item)
    }

    /// What a seller of any grammar would miss.
    pub(super) fn check(&self, index: usize) -> Result<(), ApiError> {
        let missing = |part: &str, hint: &str| {
            let param = format!("input[{index}].{part}");
            let message = format!("input[{index}] has no `{part}`: {hint}");
            Err(ApiError::field(param, message))
        };
        match self.kind {
            Kind::Message if !self.has_role => missing("role", "add one such as \"user\""),
            Kind::Message if !self.has_content => missing("content", "add a string or an array of parts"),
            Kind::Call | Kind::CallOutput if !self.has_call_id => {
                missing("call_id", "copy it from the call that the model made")
            }
            Kind::CallOutput if !self.has_content => missing("output", "add what the tool answered"),
            Kind::Reference => Err(ApiError::field(
                format!("input[{index}]"),
                format!(
                    "input[{index}] refers to a stored item, and none are stored here: send the item itself"
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// Walks over the parts of an item and counts those that are not text.
fn walk_parts(walk: &mut Walk<'_>, field: impl Fn() -> String) -> Result<u32, ApiError> {
    let (mut media, mut index) = (0, 0u32);
    walk.items::<ApiError>(|walk| {
        if walk.peek() != b'{' {
            return Err(wrong(&field(), "a string or an array of objects with `type`"));
        }
        let mut is_media = false;
        walk.members::<ApiError>(|walk, key| {
            let name = unescaped(walk.text(key));
            let is_type = name == "type";
            let value = walk.value()?;
            let word = walk.text(value);
            if matches!(&*name, "image_url" | "file_url") {
                fields::no_local_file(|| format!("{}[{index}].{name}", field()), word)?;
            }
            is_media |= is_type && matches!(word, "\"input_image\"" | "\"input_file\"" | "\"input_audio\"");
            Ok(())
        })?;
        media += u32::from(is_media);
        index += 1;
        Ok(())
    })?;
    Ok(media)
}

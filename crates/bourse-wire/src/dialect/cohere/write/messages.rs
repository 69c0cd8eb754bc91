//! The messages of a chat: blocks of text, thoughts and pictures, calls beside them, and a message for each result.

use crate::dialect::neutral::{Media, Message, Part, Role};
use crate::dialect::notes::Notes;
use crate::dialect::tree::Tree;
use crate::error::ApiError;

/// What one message holds.
#[derive(Default)]
struct Turn<'a> {
    content: Vec<Tree<'a>>,
    thoughts: Vec<&'a str>,
    calls: Vec<Tree<'a>>,
}

/// All messages: the rules as the first one, which is their only place, and one for each result.
pub(super) fn messages<'a>(messages: &'a [Message], notes: &mut Notes) -> Result<Vec<Tree<'a>>, ApiError> {
    let mut rules = Turn::default();
    let mut out = Vec::with_capacity(messages.len() + 1);
    for (n, message) in messages.iter().enumerate() {
        if message.name.is_some() {
            notes.add("messages.name", "unknown to the seller, left out");
        }
        let role = match message.role {
            Role::System | Role::Developer => "system",
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        let mut turn = Turn::default();
        for part in &message.parts {
            if let Part::ToolResult { call_id, content, is_error, cache } = part {
                note_mark(cache.is_some(), notes);
                if *is_error {
                    notes.add("messages.is_error", "unknown to the seller, left out");
                }
                let mut result = Turn::default();
                content.iter().try_for_each(|part| result.add(n, "tool", part, notes))?;
                out.extend(result.said("tool", Some(call_id)));
            } else if role == "system" {
                rules.add(n, role, part, notes)?;
            } else {
                turn.add(n, role, part, notes)?;
            }
        }
        if role == "system" && !out.is_empty() {
            notes.add("messages", "rules in the middle of the conversation, moved to its beginning");
        }
        out.extend(turn.said(role, None));
    }
    Ok(rules.said("system", None).into_iter().chain(out).collect())
}

impl<'a> Turn<'a> {
    /// Adds one part that is no result. The vendor refuses empty texts.
    fn add(&mut self, n: usize, role: &str, part: &'a Part, notes: &mut Notes) -> Result<(), ApiError> {
        match part {
            Part::Text { text, cache } => {
                note_mark(cache.is_some(), notes);
                self.text(text);
            }
            Part::Refusal { text } | Part::File { source: Media::Text(text), .. } => self.text(text),
            Part::Image { source, detail, cache } if role == "user" => {
                note_mark(cache.is_some(), notes);
                let url = match source {
                    Media::Base64 { media_type, data } => format!("data:{media_type};base64,{data}").into(),
                    Media::Url(url) => url.into(),
                    Media::Id(_) | Media::Text(_) => {
                        return Err(unsayable(n, "a picture that lies at another seller", "send its bytes"));
                    }
                };
                let image = Tree::object([("url", url), ("detail", detail.as_ref().into())]);
                self.content.push(Tree::object([("type", "image_url".into()), ("image_url", image)]));
            }
            Part::Image { .. } => return Err(unsayable(n, "a picture of no user", "send it as the user")),
            Part::Audio { .. } => return Err(unsayable(n, "sound", "leave it out")),
            Part::File { .. } => {
                return Err(unsayable(n, "a document that is not plain text", "send its text"));
            }
            Part::Reasoning { signed: Some(_), .. } => {
                notes.add("reasoning", "signed by another seller, left out");
            }
            Part::Reasoning { text, signed: None, .. } => {
                self.thoughts.extend(Some(text.as_str()).filter(|text| !text.is_empty()));
            }
            Part::ToolCall { id, name, arguments, cache } => {
                note_mark(cache.is_some(), notes);
                let arguments = if arguments.trim_ascii().is_empty() { "{}" } else { arguments };
                let function = Tree::object([("name", name.into()), ("arguments", arguments.into())]);
                self.calls.push(Tree::object([
                    ("id", id.into()),
                    ("type", "function".into()),
                    ("function", function),
                ]));
            }
            Part::ToolResult { .. } => return Err(unsayable(n, "a result within a result", "leave it out")),
        }
        Ok(())
    }

    fn text(&mut self, text: &'a str) {
        if !text.is_empty() {
            self.content.push(Tree::object([("type", "text".into()), ("text", text.into())]));
        }
    }

    /// The message, where it holds anything. Only a result may be empty.
    fn said(self, role: &'static str, call_id: Option<&'a String>) -> Option<Tree<'a>> {
        let Self { mut content, thoughts, calls } = self;
        let mut plan = None;
        if calls.is_empty() {
            let block = |text| Tree::object([("type", "thinking".into()), ("thinking", Tree::from(text))]);
            content.splice(0..0, thoughts.into_iter().map(block));
        } else {
            plan = Some(thoughts.join("\n")).filter(|plan| !plan.is_empty());
        }
        let content = match call_id {
            Some(_) => Tree::List(content),
            None => Tree::list(content),
        };
        let is_empty = matches!(content, Tree::Absent) && calls.is_empty();
        let members = [
            ("role", role.into()),
            ("tool_call_id", call_id.into()),
            ("tool_plan", plan.into()),
            ("tool_calls", Tree::list(calls)),
            ("content", content),
        ];
        (!is_empty).then(|| Tree::object(members))
    }
}

fn unsayable(n: usize, what: &str, remedy: &str) -> ApiError {
    let field = format!("messages[{n}]");
    let message = format!(
        "`{field}` holds {what}, which sellers that speak Cohere's grammar do not understand: {remedy}, or name another seller in `provider.only`"
    );
    ApiError::field(field, message)
}

/// Tells once that marks on the prompt are left out.
pub(super) fn note_mark(is_marked: bool, notes: &mut Notes) {
    if is_marked {
        notes.add("cache_control", "this seller keeps prefixes by itself, left out");
    }
}

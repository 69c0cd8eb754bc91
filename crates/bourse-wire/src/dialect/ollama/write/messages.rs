//! The messages of a chat: one text each, pictures beside it.

use crate::dialect::arguments::ObjectArguments;
use crate::dialect::neutral::{Media, Message, Part, Role};
use crate::dialect::notes::Notes;
use crate::dialect::tree::Tree;
use crate::error::ApiError;

/// What one message holds.
#[derive(Default)]
struct Turn<'a> {
    content: String,
    thinking: Option<String>,
    images: Vec<&'a str>,
    calls: Vec<Tree<'a>>,
}

impl<'a> Turn<'a> {
    /// The message; a result names its call and its tool.
    fn said(self, role: &'static str, call: Option<(&'a str, &'a str)>) -> Tree<'a> {
        let (id, name) = call.unzip();
        Tree::object([
            ("role", role.into()),
            ("content", self.content.into()),
            ("thinking", self.thinking.into()),
            ("images", Tree::list(self.images)),
            ("tool_calls", Tree::list(self.calls)),
            ("tool_name", name.into()),
            ("tool_call_id", id.into()),
        ])
    }
}

/// All messages. A message of several results becomes one for each.
pub(super) fn messages<'a>(messages: &'a [Message], notes: &mut Notes) -> Result<Vec<Tree<'a>>, ApiError> {
    let mut writer = Writer { notes, calls: Vec::new(), out: Vec::with_capacity(messages.len()) };
    for (n, message) in messages.iter().enumerate() {
        if message.name.is_some() {
            writer.notes.add("messages.name", "unknown to the seller, left out");
        }
        writer.message(n, message)?;
    }
    Ok(writer.out)
}

struct Writer<'a, 'n> {
    notes: &'n mut Notes,
    /// Ids and names of the calls so far.
    calls: Vec<(&'a str, &'a str)>,
    out: Vec<Tree<'a>>,
}

impl<'a> Writer<'a, '_> {
    fn message(&mut self, n: usize, message: &'a Message) -> Result<(), ApiError> {
        let role = match message.role {
            Role::System | Role::Developer => "system",
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        let mut out = Turn::default();
        let mut is_said = message.parts.is_empty();
        for part in &message.parts {
            if let Part::ToolResult { call_id, content, is_error, cache } = part {
                self.note_mark(cache.is_some());
                self.result(n, call_id, content, *is_error)?;
                continue;
            }
            is_said = true;
            self.part(n, part, &mut out)?;
        }
        if is_said {
            self.out.push(out.said(role, None));
        }
        Ok(())
    }

    fn part(&mut self, n: usize, part: &'a Part, out: &mut Turn<'a>) -> Result<(), ApiError> {
        match part {
            Part::Text { text, cache } => {
                self.note_mark(cache.is_some());
                join(&mut out.content, text);
            }
            Part::Refusal { text } | Part::File { source: Media::Text(text), .. } => {
                join(&mut out.content, text);
            }
            Part::Image { source: Media::Base64 { data, .. }, detail, cache } => {
                self.note_mark(cache.is_some());
                if detail.as_deref().is_some_and(|detail| detail != "auto") {
                    self.notes.add("messages.detail", "unknown to the seller, left out");
                }
                out.images.push(data);
            }
            Part::Image { .. } => {
                return Err(unsayable(n, "a picture that is not in the request", "send its bytes in base64"));
            }
            Part::Audio { .. } => return Err(unsayable(n, "sound", "leave it out")),
            Part::File { .. } => {
                return Err(unsayable(n, "a document that is not plain text", "send its text"));
            }
            Part::Reasoning { signed: Some(_), .. } => {
                self.notes.add("reasoning", "signed by another seller, left out");
            }
            Part::Reasoning { text, signed: None, .. } => {
                join(out.thinking.get_or_insert_default(), text);
            }
            Part::ToolCall { id, name, arguments, cache } => {
                self.note_mark(cache.is_some());
                self.calls.push((id, name));
                let arguments = ObjectArguments::of(arguments);
                if arguments.is_broken() {
                    self.notes
                        .add("messages.tool_calls", "arguments that are not a JSON object, wrapped in one");
                }
                let function = Tree::object([("name", name.into()), ("arguments", arguments.into())]);
                out.calls.push(Tree::object([("id", id.into()), ("function", function)]));
            }
            Part::ToolResult { .. } => {
                return Err(unsayable(n, "a result within a result", "leave it out"));
            }
        }
        Ok(())
    }

    fn result(
        &mut self,
        n: usize,
        call_id: &'a str,
        content: &'a [Part],
        is_error: bool,
    ) -> Result<(), ApiError> {
        let call = self.calls.iter().rev().find(|(id, _)| *id == call_id).copied();
        if call.is_none() {
            let what = "a result of a call that is not in the conversation";
            return Err(unsayable(n, what, "send the call before it"));
        }
        let mut out = Turn::default();
        for part in content {
            self.part(n, part, &mut out)?;
        }
        if is_error {
            self.notes.add("messages.is_error", "unknown to the seller, left out");
        }
        self.out.push(out.said("tool", call));
        Ok(())
    }

    fn note_mark(&mut self, is_marked: bool) {
        if is_marked {
            self.notes.add("cache_control", "this seller keeps prefixes by itself, left out");
        }
    }
}

/// Appends a text on a line of its own.
fn join(out: &mut String, text: &str) {
    if !out.is_empty() && !text.is_empty() {
        out.push('\n');
    }
    out.push_str(text);
}

fn unsayable(n: usize, what: &str, remedy: &str) -> ApiError {
    let field = format!("messages[{n}]");
    let message = format!(
        "`{field}` holds {what}, which sellers that speak Ollama's grammar do not understand: {remedy}, or name another seller in `provider.only`"
    );
    ApiError::field(field, message)
}

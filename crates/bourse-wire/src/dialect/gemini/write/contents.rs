//! The conversation as rules and alternating turns.
//!
//! Results of calls stand first in their turn, each with the name of its function, which this grammar wants and
//! others do not repeat. A signature goes back on the part that it hung on; see [`gemini`](super::super).

use super::model::Model;
use crate::dialect::arguments::ObjectArguments;
use crate::dialect::gemini::words::ORIGIN;
use crate::dialect::neutral::{CacheMark, Media, Part, Request, Role, Signed};
use crate::dialect::notes::Notes;
use crate::error::ApiError;
use serde::Serialize;
use std::borrow::Cow;

/// What the vendor takes for the signature of a call that its models did not make.
const FOREIGN_SIGNATURE: &str = "skip_thought_signature_validator";
/// What the addresses of files begin with that lie at the vendor.
const OWN_FILES: [&str; 2] = ["https://generativelanguage.googleapis.com/", "gs://"];

#[derive(Serialize)]
pub(super) struct RulesOut<'a> {
    parts: Vec<PartOut<'a>>,
}

#[derive(Serialize)]
pub(super) struct ContentOut<'a> {
    role: &'static str,
    parts: Vec<PartOut<'a>>,
}

/// One part; one of its members beside the signature is there.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct PartOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inline_data: Option<Blob<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<FileOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<CallOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_response: Option<ResultOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    mime_type: &'a str,
    data: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<&'static str>,
    file_uri: &'a str,
}

#[derive(Serialize)]
struct CallOut<'a> {
    id: &'a str,
    name: &'a str,
    args: ObjectArguments<'a>,
}

#[derive(Serialize)]
struct ResultOut<'a> {
    id: &'a str,
    name: &'a str,
    response: Response<'a>,
}

/// What a function gave, under the vendor's names for it.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Response<'a> {
    Output(Cow<'a, str>),
    Error(Cow<'a, str>),
}

/// The rules and the turns of a conversation.
pub(super) fn contents<'a>(
    request: &'a Request,
    model: Model,
    notes: &mut Notes,
) -> Result<(Option<RulesOut<'a>>, Vec<ContentOut<'a>>), ApiError> {
    let mut writer = Writer { model, notes, rules: Vec::new(), turns: Vec::new(), calls: Vec::new() };
    for (n, message) in request.messages.iter().enumerate() {
        if message.name.is_some() {
            writer.notes.add("messages.name", "unknown to the seller, left out");
        }
        match message.role {
            Role::System | Role::Developer => writer.rules(n, &message.parts)?,
            Role::Assistant => writer.model_turn(n, &message.parts)?,
            Role::User | Role::Tool => writer.user_turn(n, &message.parts)?,
        }
    }
    let Writer { rules, mut turns, .. } = writer;
    if turns.is_empty() {
        return Err(ApiError::field(
            "messages",
            "`messages` holds nothing but rules: add a message of the user",
        ));
    }
    for turn in turns.iter_mut().filter(|turn| turn.role == "user") {
        turn.parts.sort_by_key(|part| part.function_response.is_none());
    }
    Ok(((!rules.is_empty()).then_some(RulesOut { parts: rules }), turns))
}

struct Writer<'a, 'n> {
    model: Model,
    notes: &'n mut Notes,
    rules: Vec<PartOut<'a>>,
    turns: Vec<ContentOut<'a>>,
    /// Ids and names of the calls so far.
    calls: Vec<(&'a str, &'a str)>,
}

impl<'a> Writer<'a, '_> {
    fn rules(&mut self, n: usize, parts: &'a [Part]) -> Result<(), ApiError> {
        if !self.turns.is_empty() {
            self.notes.add("messages", "rules in the middle of the conversation, moved to its beginning");
        }
        for part in parts {
            let Part::Text { text, cache } = part else {
                return Err(unsayable(n, "rules that are not text"));
            };
            self.mark(*cache);
            if !text.is_empty() {
                self.rules.push(of_text(text));
            }
        }
        Ok(())
    }

    /// Adds a part to the turn of a side, which is begun where the other side spoke last.
    fn push(&mut self, role: &'static str, part: PartOut<'a>) {
        match self.turns.last_mut() {
            Some(turn) if turn.role == role => turn.parts.push(part),
            _ => self.turns.push(ContentOut { role, parts: vec![part] }),
        }
    }

    fn user_turn(&mut self, n: usize, parts: &'a [Part]) -> Result<(), ApiError> {
        for part in parts {
            match part {
                Part::ToolResult { call_id, content, is_error, cache } => {
                    self.mark(*cache);
                    self.result(n, call_id, content, *is_error)?;
                }
                Part::Text { text, .. } if text.is_empty() => {}
                part => {
                    let part = self.said(n, part)?;
                    self.push("user", part);
                }
            }
        }
        Ok(())
    }

    /// A part that either side can say.
    fn said(&mut self, n: usize, part: &'a Part) -> Result<PartOut<'a>, ApiError> {
        match part {
            Part::Text { text, cache } => {
                self.mark(*cache);
                Ok(of_text(text))
            }
            Part::Refusal { text } => Ok(of_text(text)),
            Part::Image { source: Media::Text(_), .. } => Err(unsayable(n, "a picture as text")),
            Part::Image { source, detail, cache } => {
                self.mark(*cache);
                if detail.as_deref().is_some_and(|detail| detail != "auto") {
                    self.notes.add("messages.detail", "unknown to the seller, left out");
                }
                media(n, source)
            }
            Part::Audio { source } => media(n, source),
            Part::File { source, filename, cache } => {
                self.mark(*cache);
                if filename.is_some() {
                    self.notes.add("messages.filename", "unknown to the seller, left out");
                }
                media(n, source)
            }
            Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Reasoning { .. } => {
                Err(unsayable(n, "what only the other side says"))
            }
        }
    }

    /// A result: its text under the vendor's name, its media behind it.
    fn result(
        &mut self,
        n: usize,
        call_id: &'a str,
        content: &'a [Part],
        is_error: bool,
    ) -> Result<(), ApiError> {
        let name = self.calls.iter().rev().find(|(id, _)| *id == call_id).map(|(_, name)| *name);
        let name = name.ok_or_else(|| unsayable(n, "a result of a call that is not in the conversation"))?;
        let texts: Vec<&str> = content
            .iter()
            .filter_map(|part| match part {
                Part::Text { text, .. } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let text = match texts.as_slice() {
            [one] => Cow::Borrowed(*one),
            many => Cow::Owned(many.join("\n")),
        };
        let response = if is_error { Response::Error(text) } else { Response::Output(text) };
        let result = ResultOut { id: call_id, name, response };
        self.push("user", PartOut { function_response: Some(result), ..PartOut::default() });
        for part in content {
            match part {
                Part::Text { cache, .. } => self.mark(*cache),
                part => {
                    let part = self.said(n, part)?;
                    self.push("user", part);
                }
            }
        }
        Ok(())
    }

    fn model_turn(&mut self, n: usize, parts: &'a [Part]) -> Result<(), ApiError> {
        let mut signature = None;
        let mut is_first_call =
            !matches!(self.turns.last(), Some(turn) if turn.role == "model" && turn.has_call());
        for part in parts {
            match part {
                Part::Reasoning { signed, text, .. } => match own(signed.as_ref()) {
                    Some(Signed { id: Some(id), .. }) if has_call(parts, id) => {}
                    Some(signed) => {
                        self.sign_alone(signature.replace(signed.data.as_str()));
                    }
                    None => self.note_foreign(parts, signed.as_ref(), text),
                },
                Part::ToolCall { id, name, arguments, cache } => {
                    self.mark(*cache);
                    let mut own = signature_of(parts, id);
                    if own.is_none() {
                        own = signature.take();
                    }
                    self.sign_alone(signature.take());
                    if own.is_none() && is_first_call && self.model.wants_signed_calls() {
                        self.notes
                            .add("reasoning", "calls that the seller's model did not make, sent unsigned");
                        own = Some(FOREIGN_SIGNATURE);
                    }
                    is_first_call = false;
                    self.call(id, name, arguments, own);
                }
                Part::Text { text, .. } | Part::Refusal { text } if text.is_empty() => {}
                part => {
                    let part = self.said(n, part)?;
                    self.push("model", PartOut { thought_signature: signature.take(), ..part });
                }
            }
        }
        self.sign_alone(signature);
        Ok(())
    }

    fn call(&mut self, id: &'a str, name: &'a str, arguments: &'a str, signature: Option<&'a str>) {
        self.calls.push((id, name));
        let args = ObjectArguments::of(arguments);
        if args.is_broken() {
            self.notes.add("messages.tool_calls", "arguments that are not a JSON object, wrapped in one");
        }
        let function_call = Some(CallOut { id, name, args });
        self.push("model", PartOut { function_call, thought_signature: signature, ..PartOut::default() });
    }

    /// A signature that no part follows hangs on an empty text, as on streams.
    fn sign_alone(&mut self, signature: Option<&'a str>) {
        if signature.is_some() {
            self.push("model", PartOut { thought_signature: signature, ..of_text("") });
        }
    }

    /// Shown thoughts are told in silence where the seller's own signatures hold them.
    fn note_foreign(&mut self, parts: &[Part], signed: Option<&Signed>, text: &str) {
        let is_own_turn = parts
            .iter()
            .any(|part| matches!(part, Part::Reasoning { signed, .. } if own(signed.as_ref()).is_some()));
        if signed.is_some() {
            self.notes.add("reasoning", "signed by another seller, left out");
        } else if !is_own_turn && !text.is_empty() {
            self.notes.add("reasoning", "unsigned, left out");
        }
    }

    fn mark(&mut self, mark: Option<CacheMark>) {
        if mark.is_some() {
            self.notes.add("cache_control", "this seller keeps prefixes by itself, left out");
        }
    }
}

impl ContentOut<'_> {
    fn has_call(&self) -> bool {
        self.parts.iter().any(|part| part.function_call.is_some())
    }
}

fn own(signed: Option<&Signed>) -> Option<&Signed> {
    signed.filter(|signed| signed.origin == ORIGIN)
}

fn has_call(parts: &[Part], call_id: &str) -> bool {
    parts.iter().any(|part| matches!(part, Part::ToolCall { id, .. } if id == call_id))
}

/// The signature that bears the id of a call.
fn signature_of<'a>(parts: &'a [Part], call_id: &str) -> Option<&'a str> {
    parts.iter().find_map(|part| match part {
        Part::Reasoning { signed, .. } => own(signed.as_ref())
            .filter(|signed| signed.id.as_deref() == Some(call_id))
            .map(|signed| signed.data.as_str()),
        _ => None,
    })
}

fn of_text(text: &str) -> PartOut<'_> {
    PartOut { text: Some(Cow::Borrowed(text)), ..PartOut::default() }
}

fn media(n: usize, source: &Media) -> Result<PartOut<'_>, ApiError> {
    let file = |file_uri, mime_type| {
        Ok(PartOut { file_data: Some(FileOut { mime_type, file_uri }), ..PartOut::default() })
    };
    match source {
        Media::Base64 { media_type, data } => {
            Ok(PartOut { inline_data: Some(Blob { mime_type: media_type, data }), ..PartOut::default() })
        }
        Media::Url(url) => file(url, mime_type(url)),
        Media::Id(id) if OWN_FILES.iter().any(|start| id.starts_with(start)) => file(id, mime_type(id)),
        Media::Id(_) => Err(unsayable(n, "a file that lies at another seller")),
        Media::Text(text) => Ok(of_text(text)),
    }
}

/// What an address ends with, and the type that it tells.
const ENDINGS: [(&str, &str); 14] = [
    ("gif", "image/gif"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("png", "image/png"),
    ("webp", "image/webp"),
    ("pdf", "application/pdf"),
    ("txt", "text/plain"),
    ("flac", "audio/flac"),
    ("mp3", "audio/mp3"),
    ("ogg", "audio/ogg"),
    ("wav", "audio/wav"),
    ("mp4", "video/mp4"),
];

/// The type that an address tells; none where the seller must look itself.
fn mime_type(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let (_, ending) = path.rsplit_once('.')?;
    ENDINGS.iter().find(|(known, _)| ending.eq_ignore_ascii_case(known)).map(|(_, kind)| *kind)
}

fn unsayable(n: usize, what: &str) -> ApiError {
    let field = format!("messages[{n}]");
    let message = format!(
        "`{field}` holds {what}, which sellers that speak Google's grammar do not understand: leave it out, or name another seller in `provider.only`"
    );
    ApiError::field(field, message)
}

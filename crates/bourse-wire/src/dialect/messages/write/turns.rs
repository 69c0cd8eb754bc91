//! The conversation as rules and alternating turns.

use super::{Marks, Notes};
use crate::dialect::messages::body::{BlockOut, Input, SourceOut, thoughts};
use crate::dialect::messages::words::ORIGIN;
use crate::dialect::neutral::{Media, Part, Request, Role};
use crate::error::ApiError;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

#[derive(Serialize)]
pub(super) struct TurnOut<'a> {
    role: &'static str,
    content: Vec<BlockOut<'a>>,
}

/// Rules, and turns in which user and model alternate.
pub(super) struct Conversation<'a> {
    rules: Vec<&'a Part>,
    turns: Vec<Turn<'a>>,
}

struct Turn<'a> {
    is_model: bool,
    parts: Vec<&'a Part>,
}

impl Conversation<'_> {
    /// Whether the model waits for results of calls that no thoughts of this grammar's sellers precede: those that
    /// take budgets refuse to think on from there.
    pub(super) fn calls_without_thoughts(&self) -> bool {
        let Some(turn) = self.turns.iter().rev().find(|turn| turn.is_model) else { return false };
        let calls = turn.parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
        calls && !turn.parts.first().is_some_and(|part| is_own_thought(part))
    }
}

fn is_own_thought(part: &Part) -> bool {
    matches!(part, Part::Reasoning { signed: Some(signed), .. } if signed.origin == ORIGIN)
}

/// Sorts the messages into rules and turns.
pub(super) fn conversation<'a>(request: &'a Request, notes: &mut Notes) -> Conversation<'a> {
    let mut rules = Vec::new();
    let mut turns: Vec<Turn<'a>> = Vec::new();
    for message in &request.messages {
        if message.name.is_some() {
            notes.add("messages.name", "unknown to the seller, left out");
        }
        let parts: Vec<&Part> = message.parts.iter().filter(|part| is_said(part, notes)).collect();
        let is_model = match message.role {
            Role::System | Role::Developer => {
                if !turns.is_empty() {
                    notes.add("messages", "rules in the middle of the conversation, moved to its beginning");
                }
                rules.extend(parts);
                continue;
            }
            Role::Assistant => true,
            Role::User | Role::Tool => false,
        };
        match turns.last_mut() {
            Some(turn) if turn.is_model == is_model => turn.parts.extend(parts),
            _ => turns.push(Turn { is_model, parts }),
        }
    }
    turns.retain(|turn| !turn.parts.is_empty());
    let mut turns = alternating(turns);
    for turn in turns.iter_mut().filter(|turn| !turn.is_model) {
        turn.parts.sort_by_key(|part| !matches!(part, Part::ToolResult { .. }));
    }
    Conversation { rules, turns }
}

/// Whether a part is written at all. Sellers refuse empty texts, and thoughts that are not their own.
fn is_said(part: &Part, notes: &mut Notes) -> bool {
    match part {
        Part::Text { text, .. } | Part::Refusal { text } => !text.is_empty(),
        Part::Reasoning { signed: None, text, .. } => {
            if !text.is_empty() {
                notes.add("reasoning", "unsigned, left out");
            }
            false
        }
        Part::Reasoning { .. } if !is_own_thought(part) => {
            notes.add("reasoning", "signed by another seller, left out");
            false
        }
        _ => true,
    }
}

/// Joins neighbours of one side that empty turns between them had kept apart.
fn alternating(turns: Vec<Turn<'_>>) -> Vec<Turn<'_>> {
    let mut joined: Vec<Turn<'_>> = Vec::with_capacity(turns.len());
    for turn in turns {
        match joined.last_mut() {
            Some(last) if last.is_model == turn.is_model => last.parts.extend(turn.parts),
            _ => joined.push(turn),
        }
    }
    joined
}

type Blocks<'a> = Vec<BlockOut<'a>>;

/// The rules and the turns as they are written.
pub(super) fn write<'a>(
    conversation: &Conversation<'a>,
    marks: &mut Marks,
    notes: &mut Notes,
) -> Result<(Blocks<'a>, Vec<TurnOut<'a>>), ApiError> {
    let mut system = Vec::with_capacity(conversation.rules.len());
    for part in &conversation.rules {
        if !matches!(part, Part::Text { .. }) {
            return Err(ApiError::field(
                "messages",
                "`messages`: rules must be text for a seller that speaks Anthropic's grammar",
            ));
        }
        system.push(block(part, &mut Calls::default(), marks, notes)?);
    }
    if conversation.turns.is_empty() {
        return Err(ApiError::field(
            "messages",
            "`messages` holds nothing but rules: add a message of the user",
        ));
    }
    let mut turns = Vec::with_capacity(conversation.turns.len());
    let mut calls = Calls::default();
    for turn in &conversation.turns {
        let parts = turn.parts.iter().copied();
        let content: Result<Blocks<'a>, ApiError> =
            parts.map(|part| block(part, &mut calls, marks, notes)).collect();
        turns.push(TurnOut { role: if turn.is_model { "assistant" } else { "user" }, content: content? });
    }
    trim_prefill(&mut turns);
    Ok((system, turns))
}

/// The ids of calls. Sellers of this grammar refuse an id that a conversation has twice; others count their calls from the
/// start in every turn.
#[derive(Default)]
struct Calls<'a>(HashMap<&'a str, Given<'a>>);

/// What calls of one id are called here.
#[derive(Default)]
struct Given<'a> {
    times: u32,
    /// Those whose results have not come, and the last one whose result has.
    open: VecDeque<Cow<'a, str>>,
    last: Option<Cow<'a, str>>,
}

impl<'a> Calls<'a> {
    fn begin(&mut self, id: &'a str) -> Cow<'a, str> {
        let given = self.0.entry(id).or_default();
        given.times += 1;
        let name = match given.times {
            1 => call_id(id),
            again => Cow::Owned(call_id(&format!("{id}_again_{again}")).into_owned()),
        };
        given.open.push_back(name.clone());
        name
    }

    fn end(&mut self, id: &'a str) -> Cow<'a, str> {
        let Some(given) = self.0.get_mut(id) else { return call_id(id) };
        if let Some(next) = given.open.pop_front() {
            given.last = Some(next);
        }
        given.last.clone().unwrap_or_else(|| call_id(id))
    }
}

/// Sellers refuse an answer to be continued that ends in white space.
fn trim_prefill(turns: &mut Vec<TurnOut<'_>>) {
    let Some(last) = turns.last_mut().filter(|turn| turn.role == "assistant") else { return };
    if let Some(BlockOut::Text { text, .. }) = last.content.last_mut() {
        *text = text.trim_ascii_end();
        if text.is_empty() {
            last.content.pop();
        }
    }
    if last.content.is_empty() {
        turns.pop();
    }
}

fn block<'a>(
    part: &'a Part,
    calls: &mut Calls<'a>,
    marks: &mut Marks,
    notes: &mut Notes,
) -> Result<BlockOut<'a>, ApiError> {
    Ok(match part {
        Part::Text { text, cache } => BlockOut::Text { text, cache_control: marks.take(*cache) },
        Part::Refusal { text } => BlockOut::Text { text, cache_control: None },
        Part::Image { source: Media::Text(_), .. } => return Err(unknown("a picture as text")),
        Part::Image { source, cache, .. } => {
            BlockOut::Image { source: SourceOut::of(source), cache_control: marks.take(*cache) }
        }
        Part::Audio { .. } => return Err(unknown("sound")),
        Part::File { source, filename, cache } => {
            if matches!(source, Media::Base64 { media_type, .. } if media_type != "application/pdf") {
                return Err(unknown("a document that is neither PDF nor plain text"));
            }
            let (source, title) = (SourceOut::of(source), filename.as_deref());
            BlockOut::Document { source, title, cache_control: marks.take(*cache) }
        }
        Part::ToolCall { id, name, arguments, cache } => {
            let input = Input::of(arguments);
            if matches!(input, Input::Broken { .. }) {
                notes.add("messages.tool_calls", "arguments that are not a JSON object, wrapped in one");
            }
            BlockOut::ToolUse { id: calls.begin(id), name, input, cache_control: marks.take(*cache) }
        }
        Part::ToolResult { call_id: id, content, is_error, cache } => {
            let content = content.iter().filter(|part| is_said(part, &mut Notes::default()));
            let blocks: Vec<&Part> = content.collect();
            let content: Result<Blocks<'a>, ApiError> =
                blocks.into_iter().map(|part| block(part, calls, marks, notes)).collect();
            BlockOut::ToolResult {
                tool_use_id: calls.end(id),
                content: content?,
                is_error: *is_error,
                cache_control: marks.take(*cache),
            }
        }
        Part::Reasoning { text, signed, .. } => thoughts(text, signed.as_ref()),
    })
}

fn unknown(what: &str) -> ApiError {
    ApiError::field(
        "messages",
        format!(
            "`messages` holds {what}, which sellers that speak Anthropic's grammar do not understand: leave it out, or name another seller in `provider.only`"
        ),
    )
}

/// What stands before the digest of an id that this grammar does not allow.
const CALL_ID_PREFIX: &str = "toolu_";
/// Letters of that digest.
const CALL_ID_DIGITS: usize = 32;

/// The id of a call: as it is where it has only letters, digits, `_` and `-`, otherwise made of its digest, so that call and
/// result still find each other.
pub(super) fn call_id(id: &str) -> Cow<'_, str> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !id.is_empty() && id.bytes().all(is_allowed) {
        return Cow::Borrowed(id);
    }
    let digest = blake3::hash(id.as_bytes()).to_hex();
    Cow::Owned(format!("{CALL_ID_PREFIX}{}", &digest[..CALL_ID_DIGITS]))
}

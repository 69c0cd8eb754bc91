//! Requests, first reading: one pass that finds members, checks ranges and counts what a plan needs.
//!
//! As for [`openai`](crate::dialect::openai): unknown members are kept for sellers of this grammar, known ones must not
//! occur twice, keys are compared after their escapes are resolved.
//!
//! **Nothing is stored.** `store` may say anything; sellers are always told `false`, and the answer says `false` in
//! its turn.
//! What rests on stored answers is refused with a hint: `previous_response_id`, `conversation`, `background`,
//! `prompt`, and items of type `item_reference`.

mod item;

use super::item::is_unreadable;
use crate::dialect::fields::{self, Routed, RoutingDraft, known_once, members_bounded, unescaped, wrong};
use crate::dialect::openai::walk_body;
use crate::dialect::{
    Api, Job, MAX_TOKENS_MAX, MESSAGES_MAX, Member, MemberRule, Needs, TOOLS_MAX, TOP_K_MAX, TOP_LOGPROBS_MAX,
};
use crate::error::ApiError;
use crate::json::Walk;
use crate::node::Sampling;
use bytes::Bytes;
use item::{Item, Kind};
use std::ops::Range;

/// Members that an ordinary request has at most; more cost a second allocation.
const MEMBERS_ORDINARY: usize = 16;

/// Every member that is read here; others pass through.
const KNOWN: [&str; 22] = [
    "n",
    "input",
    "instructions",
    "stream",
    "stream_options",
    "max_output_tokens",
    "temperature",
    "top_p",
    "top_k",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "include",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "text",
    "store",
    "previous_response_id",
    "conversation",
    "prompt",
    "background",
];

/// Reads a request.
pub(in crate::dialect) fn parse(body: Bytes) -> Result<Job, ApiError> {
    let mut walk = walk_body(&body)?;
    let mut draft = Draft { members: Vec::with_capacity(MEMBERS_ORDINARY), ..Draft::default() };
    walk.members(|walk, key| draft.member(walk, key))?;
    walk.finish()?;
    draft.finish(body)
}

#[derive(Default)]
struct Draft {
    members: Vec<Member>,
    /// One bit for each of [`KNOWN`], then one for each of [`RoutingDraft::MEMBERS`].
    seen: u64,
    routing: RoutingDraft,
    stream: bool,
    max_tokens: Option<u32>,
    sampling: Option<Sampling>,
    wants_logprobs: bool,
    top_logprobs: Option<u8>,
    items_count: u32,
    input: Option<Range<usize>>,
    /// The input holds thoughts that no seller of this grammar could read.
    has_unreadable: bool,
    tools: Option<Range<usize>>,
    needs: Needs,
}

impl Draft {
    fn member(&mut self, walk: &mut Walk<'_>, key: Range<usize>) -> Result<(), ApiError> {
        members_bounded(self.members.len())?;
        let name = unescaped(walk.text(key.clone()));
        let known = known_once(&name, &KNOWN, &mut self.seen)?;
        let value = match name.as_ref() {
            "input" if walk.peek() == b'[' => self.walk_input(walk)?,
            "tools" if walk.peek() == b'[' => self.walk_tools(walk)?,
            _ => walk.value()?,
        };
        let raw = walk.text(value.clone());
        let shared = match known {
            Some(bit) if bit >= KNOWN.len() => self.routing.member(&name, raw, &value)?,
            Some(_) if raw != "null" => {
                self.field(&name, raw, &value)?;
                None
            }
            _ => None,
        };
        let rule = match name.as_ref() {
            "max_output_tokens" => MemberRule::MaxTokens,
            // Said anew to every seller.
            "store" | "n" => MemberRule::Drop,
            "input" if self.has_unreadable => MemberRule::Clean,
            _ => shared.unwrap_or(MemberRule::Copy),
        };
        self.members.push(Member { key, value, rule });
        Ok(())
    }

    fn field(&mut self, name: &str, raw: &str, span: &Range<usize>) -> Result<(), ApiError> {
        match name {
            "input" => self.input(raw, span)?,
            "n" => fields::one_choice(raw)?,
            "instructions" if !raw.starts_with('"') => return Err(wrong(name, "a string")),
            "stream" => self.stream = fields::boolean(name, raw)?,
            "store" | "parallel_tool_calls" => {
                fields::boolean(name, raw)?;
            }
            "stream_options" if !raw.starts_with('{') => {
                return Err(wrong(name, "an object"));
            }
            "text" => self.needs.response_format = text_format(raw)?,
            "max_output_tokens" => self.max_tokens = Some(fields::whole(name, raw, 1, MAX_TOKENS_MAX)?),
            "tools" if !raw.starts_with('[') => return Err(wrong(name, "an array")),
            "tools" => self.tools = self.needs.tools.then(|| span.clone()),
            "include" => {
                let list: Vec<String> =
                    serde_json::from_str(raw).map_err(|_| wrong(name, "an array of strings"))?;
                self.wants_logprobs = list.iter().any(|word| word == "message.output_text.logprobs");
            }
            "previous_response_id" | "conversation" | "prompt" => return Err(not_stored(name)),
            "background" if fields::boolean(name, raw)? => return Err(not_stored(name)),
            _ => self.sampling(name, raw)?,
        }
        Ok(())
    }

    fn sampling(&mut self, name: &str, raw: &str) -> Result<(), ApiError> {
        let sampling = self.sampling.get_or_insert_with(fields::default_sampling);
        match name {
            "temperature" => sampling.temperature = fields::number(name, raw, 0.0, 2.0)?,
            "top_p" => sampling.top_p = fields::top_p(name, raw)?,
            "top_k" => sampling.top_k = fields::whole(name, raw, 0, TOP_K_MAX)?,
            "presence_penalty" => sampling.presence_penalty = fields::number(name, raw, -2.0, 2.0)?,
            "frequency_penalty" => sampling.frequency_penalty = fields::number(name, raw, -2.0, 2.0)?,
            "top_logprobs" => {
                self.top_logprobs = Some(fields::whole(name, raw, 0, u32::from(TOP_LOGPROBS_MAX))? as u8);
            }
            _ => {}
        }
        Ok(())
    }

    /// The input's span; a string counts as one message.
    fn input(&mut self, raw: &str, span: &Range<usize>) -> Result<(), ApiError> {
        match raw.as_bytes() {
            [b'[', ..] => {}
            b"\"\"" => return Err(ApiError::field("input", "`input` is empty: send some text")),
            [b'"', ..] => self.items_count = 1,
            _ => return Err(wrong("input", "a string or an array of items")),
        }
        self.input = Some(span.clone());
        Ok(())
    }

    fn walk_input(&mut self, walk: &mut Walk<'_>) -> Result<Range<usize>, ApiError> {
        let start = walk.at();
        let mut count = 0usize;
        walk.items(|walk| {
            if count == MESSAGES_MAX {
                return Err(ApiError::field(
                    "input",
                    format!("`input` has more than {MESSAGES_MAX} items: send less"),
                ));
            }
            walk.peek();
            let start = walk.at();
            let item = Item::walk(walk, count)?;
            item.check(count)?;
            self.has_unreadable |= item.kind == Kind::Thoughts && is_unreadable(walk.text(start..walk.at()));
            self.needs.media_parts = self.needs.media_parts.saturating_add(item.media_parts);
            self.needs.passthrough |= item.kind == Kind::Other;
            count += 1;
            Ok(())
        })?;
        if count == 0 {
            return Err(ApiError::field("input", "`input` is empty: send at least one item"));
        }
        self.items_count = count as u32;
        Ok(start..walk.at())
    }

    /// Tools other than functions run at the seller: only sellers of this grammar know them.
    fn walk_tools(&mut self, walk: &mut Walk<'_>) -> Result<Range<usize>, ApiError> {
        let start = walk.at();
        let mut count = 0usize;
        walk.items::<ApiError>(|walk| {
            count += 1;
            if count > TOOLS_MAX {
                return Err(ApiError::field(
                    "tools",
                    format!("`tools` has more than {TOOLS_MAX} entries: send fewer"),
                ));
            }
            if walk.peek() != b'{' {
                return Err(wrong(&format!("tools[{}]", count - 1), "an object"));
            }
            let mut is_function = false;
            walk.members::<ApiError>(|walk, key| {
                let is_type = unescaped(walk.text(key)) == "type";
                let value = walk.value()?;
                is_function |= is_type && walk.text(value) == "\"function\"";
                Ok(())
            })?;
            self.needs.passthrough |= !is_function;
            Ok(())
        })?;
        self.needs.tools = count > 0;
        Ok(start..walk.at())
    }

    fn finish(mut self, body: Bytes) -> Result<Job, ApiError> {
        let Routed { model, fallbacks, preferences, preferences_span, session, routing } =
            std::mem::take(&mut self.routing).finish()?;
        let prompt = self.input.take().ok_or_else(|| {
            ApiError::field("input", "`input` is missing: send a string, or an array of items")
        })?;
        let mut sampling = self.sampling.take().unwrap_or_else(fields::default_sampling);
        sampling.max_tokens = self.max_tokens;
        // As OpenAI has it, a number of alternatives alone asks for log-probabilities too.
        self.wants_logprobs |= self.top_logprobs.is_some_and(|n| n > 0);
        sampling.logprobs = self.wants_logprobs.then(|| self.top_logprobs.unwrap_or(0));
        self.needs.logprobs = self.wants_logprobs;
        Ok(Job {
            api: Api::Responses,
            body,
            members: self.members,
            model,
            fallbacks,
            stream: self.stream,
            choices: 1,
            max_tokens: self.max_tokens,
            sampling,
            seed: None,
            messages_count: self.items_count,
            prompt,
            tools: self.tools,
            needs: self.needs,
            preferences,
            preferences_span,
            session,
            routing,
            passed: None,
        })
    }
}

/// What rests on stored answers, and what to do instead.
const STORED: [(&str, &str); 4] = [
    ("previous_response_id", "send the earlier items again in `input`"),
    ("conversation", "send the earlier items again in `input`"),
    ("prompt", "send the prompt's text in `instructions` and `input`"),
    ("background", "use `stream` and keep the connection open"),
];

fn not_stored(name: &str) -> ApiError {
    let (name, hint) = STORED.into_iter().find(|(known, _)| *known == name).unwrap_or(STORED[0]);
    ApiError::field(name, format!("`{name}` needs answers that are stored, and none are stored here: {hint}"))
}

/// Whether another form than free text is asked for.
fn text_format(raw: &str) -> Result<bool, ApiError> {
    let mut walk = Walk::new(raw);
    if walk.peek() != b'{' {
        return Err(wrong("text", "an object with `format` or `verbosity`"));
    }
    let mut wants = false;
    walk.members::<ApiError>(|walk, key| {
        let is_format = unescaped(walk.text(key)) == "format";
        let value = walk.value()?;
        let format = walk.text(value);
        if is_format && format != "null" {
            wants = fields::response_format(format).map_err(|_| {
                wrong("text.format", "an object with `type` \"text\", \"json_object\" or \"json_schema\"")
            })?;
        }
        Ok(())
    })?;
    Ok(wants)
}
